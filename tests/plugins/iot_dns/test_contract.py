"""What every plugin must do, with a name server of our own: the contract's names lead nowhere there."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import pytest
from switchgear.testing.dns import ThreadedDnsServer
from switchgear.testing.plugin_contract import PluginContract

if TYPE_CHECKING:
    from collections.abc import Iterator


class TestIotDns(PluginContract):
    """The plugin of ``iot+dns://``, watching while connected."""

    plugin = "iot_dns"
    uris = ("iot+dns://mqtt1.example.com", "iot+dns://mqtt2.example.com:443?watch=30&answers=2")
    options: ClassVar[dict[str, object]] = {}  # type: ignore[misc]  # the server's port is known when it listens

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def server(cls) -> Iterator[None]:
        """A name server that knows the names of the URIs, and of the contract's outage only one."""
        with ThreadedDnsServer() as running:
            for name in ("mqtt1.example.com", "mqtt2.example.com", "b-1.example.com"):
                running.set_cname(name, "east-ats.iot.test")
            running.set_a("east-ats.iot.test", "127.0.0.2")
            cls.options = {"resolver": running.address, "watch": 20, "timeout": 0.5}
            yield
