from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest
from switchgear.testing import BackgroundLoop, ThreadedBroker, ThreadedPair, ThreadedProxy

Ours = Callable[[], int]


@pytest.fixture
def ours() -> Ours:
    """How many threads of the testing kit there are more than before; fixtures of a whole run may have some."""

    def count() -> int:
        return [thread.name for thread in threading.enumerate()].count("switchgear-testing")

    before = count()
    return lambda: count() - before


def test_work_runs_on_the_thread_and_its_result_comes_back(ours: Ours) -> None:
    """A coroutine, a function and an exception come back from the loop's thread; what takes too long is cancelled."""
    cancelled = threading.Event()

    async def hang() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    with BackgroundLoop() as home:
        assert home.do(asyncio.sleep(0, "slept")) == "slept"
        assert home.do(threading.get_ident) != threading.get_ident()
        with pytest.raises(ZeroDivisionError):
            home.do(lambda: 1 / 0)
        with pytest.raises(TimeoutError):
            home.do(hang(), timeout=0.01)
        assert cancelled.wait(60)
        assert ours() == 1
    home.close()
    assert ours() == 0


def test_brokers_close_once_and_leave_no_thread(ours: Ours) -> None:
    """A broker, a pair and a proxy may be closed twice, and leave no thread and no open port behind."""
    things = (ThreadedBroker(), ThreadedPair(), ThreadedProxy("127.0.0.1:1"))
    assert ours() == 3
    for thing in things:
        thing.close()
        thing.close()
    assert ours() == 0
    assert not things[0].broker.is_listening


def test_faults_run_on_the_loop_of_the_broker() -> None:
    """A fault set from another thread is set, what it counts is seen, and an impossible one raises here."""
    with ThreadedBroker() as broker:
        broker.faults.silence(times=2)
        assert broker.faults.active == {"silence": 2}
        assert broker.faults.reset() == 0
        assert repr(broker.faults) == "Faults(silence=2)"
        with pytest.raises(ValueError, match="counts from 1"):
            broker.faults.silence(times=0)


def test_names() -> None:
    """The repr of each says what it is and where."""
    with ThreadedBroker(name="one") as broker, ThreadedPair() as pair:
        assert repr(broker) == f"<ThreadedBroker 'one' listening {broker.uri}>"
        assert broker.uri == f"mqtt://127.0.0.1:{broker.port}"
        assert repr(pair) == f"<ThreadedPair {pair.uris[0]} {pair.uris[1]} active='active'>"
