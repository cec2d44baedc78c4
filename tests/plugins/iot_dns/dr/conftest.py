"""A whole account on loopback, a plan file for it, and the operations on a clock that jumps."""

from __future__ import annotations

import functools
import importlib
import ssl
from typing import TYPE_CHECKING

import pytest
from switchgear.testing import ThreadedBroker
from switchgear.testing.dns import ThreadedDnsServer
from switchgear_certs import Authority
from switchgear_iot_dns.dr.testing import Bench, FakeAws
from switchgear_iot_dns.dr.testing.bench import ONE, TWO, environment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session", autouse=True)
def _one_loader() -> Iterator[None]:
    """The models of AWS's services are read once, and not for each client."""
    loaders = importlib.import_module("botocore.loaders")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loaders, "create_loader", functools.cache(loaders.create_loader))
        yield


@pytest.fixture(autouse=True)
def _quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """What botocore repeats, it repeats at once; how long it would have waited is not ours to test."""
    backoff = importlib.import_module("botocore.retries.standard").ExponentialBackoff
    monkeypatch.setattr(backoff, "delay_amount", lambda *_: 0.01)
    bucket = importlib.import_module("botocore.retries.bucket").TokenBucket
    monkeypatch.setattr(bucket.__init__, "__defaults__", (50.0,))  # what adaptive retries fall back to, a second


@pytest.fixture(scope="session")
def authority() -> Authority:
    return Authority.create()


@pytest.fixture(scope="session")
def fake_aws() -> Iterator[FakeAws]:
    with FakeAws() as aws:
        yield aws


@pytest.fixture(scope="session")
def tls_port(authority: Authority) -> Iterator[int]:
    """A broker with a certificate for both domains."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.server(ONE, TWO).configure(context)
    with ThreadedBroker(ssl=context) as broker:
        yield broker.port


@pytest.fixture
def bench(
    fake_aws: FakeAws, authority: Authority, tls_port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Bench]:
    for name, value in environment(fake_aws, tmp_path).items():
        monkeypatch.setenv(name, value)
    fake_aws.reset()
    (tmp_path / "ca.pem").write_bytes(authority.ca_pem)
    with ThreadedDnsServer() as dns:
        yield Bench(aws=fake_aws, dns=dns, folder=tmp_path, tls_port=tls_port)
