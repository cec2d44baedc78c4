from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from attrs import evolve
from switchgear import TLS, Profile, env, parse_uri
from switchgear.cause import Cause
from switchgear.credentials import Credentials
from switchgear.drivers.base import AttemptFailed
from switchgear.workers import LOOKUPS, SECRETS

if TYPE_CHECKING:
    import threading


async def test_a_function_that_hangs_keeps_no_name_from_being_looked_up(gate: threading.Event) -> None:
    """However often a password is asked for that never comes, the threads that look names up for all transports are free."""
    asked: list[None] = []

    def ask() -> str:
        asked.append(None)
        gate.wait()
        return "late"

    credentials = Credentials(Profile("mqtt://h", username="u", password=ask, hook_timeout=0.01))
    for _ in range(SECRETS.limit + LOOKUPS.limit):
        with pytest.raises(AttemptFailed) as caught:
            await credentials.of(parse_uri("mqtt://h"))
        assert caught.value.failure.cause is Cause.CREDENTIALS_UNAVAILABLE
    async with asyncio.timeout(5):
        assert await LOOKUPS.run(lambda: "found") == "found"
        assert await SECRETS.run(lambda: "other") == "other"
    assert len(asked) == 1
    gate.set()
    late = evolve(credentials, profile=evolve(credentials._profile, hook_timeout=5.0))
    assert await late.of(parse_uri("mqtt://h")) == ("u", b"late")
    assert await late.of(parse_uri("mqtt://h")) == ("u", b"late")
    assert len(asked) == 3


def test_threads_of_keys() -> None:
    """Settings that ask a function are read beside the look-ups, and those that do not are read with them."""
    assert TLS(key_pem=lambda: "key").workers is TLS(key_password=env("NAME")).workers is SECRETS
    assert TLS(key_pem="key", key_password="x").workers is TLS(cert_file="c").workers is LOOKUPS
