"""Real brokers for the tests in this folder."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from switchgear.testing.processes import (
    ActiveMQPair,
    BrokerMissing,
    Mosquitto,
    Relay,
    TlsFiles,
    find_activemq,
    find_mosquitto,
    make_tls_files,
)

_FIND = {"mosquitto": find_mosquitto, "activemq": find_activemq}


@pytest.fixture(scope="session")
def require_brokers() -> Callable[[str], None]:
    """A function that skips the test where the broker of that name is missing.

    It fails the test instead where the environment variable SWITCHGEAR_REQUIRE_BROKERS is 1.
    """

    def require(name: str) -> None:
        try:
            _FIND[name]()
        except BrokerMissing as missing:
            if os.environ.get("SWITCHGEAR_REQUIRE_BROKERS") == "1":
                pytest.fail(f"SWITCHGEAR_REQUIRE_BROKERS is 1, but: {missing}")
            pytest.skip(str(missing))

    return require


@pytest.fixture(scope="session")
def tls_files(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    """One authority's certificates for localhost and 127.0.0.1, and a client's."""
    return make_tls_files(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def mosquitto(
    tmp_path_factory: pytest.TempPathFactory, require_brokers: Callable[[str], None]
) -> Iterator[Callable[..., Mosquitto]]:
    """A function that starts one more mosquitto, in a folder of its own, with the arguments of `Mosquitto`."""
    require_brokers("mosquitto")
    started: list[Mosquitto] = []

    def start(**options: Any) -> Mosquitto:
        broker = Mosquitto(tmp_path_factory.mktemp("mosquitto"), **options)
        broker.start()
        started.append(broker)
        return broker

    yield start
    for broker in started:
        broker.stop()


@pytest.fixture
def relay() -> Iterator[Callable[[int], Relay]]:
    """A function that puts one more `Relay` before a port; it is up."""
    with ExitStack() as stack:
        yield lambda port: stack.enter_context(Relay(port))


@pytest.fixture(scope="session")
def _shared_pair(
    tmp_path_factory: pytest.TempPathFactory, tls_files: TlsFiles, require_brokers: Callable[[str], None]
) -> Iterator[ActiveMQPair]:
    require_brokers("activemq")
    with ActiveMQPair(tmp_path_factory.mktemp("activemq"), tls=tls_files) as pair:
        yield pair


@pytest.fixture
def activemq_pair(_shared_pair: ActiveMQPair) -> ActiveMQPair:
    """The session's pair with one broker active and the other waiting; its store and ledger hold earlier tests' things.

    Use topics and client ids of your own.
    """
    for index in (0, 1):
        _shared_pair.thaw(index)
    _shared_pair.start()
    _shared_pair.wait_standby(60)
    return _shared_pair
