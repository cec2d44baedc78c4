from __future__ import annotations

import os
import subprocess
import sys

import pytest
import switchgear
import switchgear_awscrt
from switchgear import Will
from switchgear.drivers.base import DriverSettings
from switchgear.errors import InvalidOption
from switchgear.testing import ThreadedBroker
from switchgear.testing.broker import Broker
from switchgear_awscrt import sdk as door

SETTINGS = DriverSettings(client_id="c", protocol="5", keepalive=60, connect_timeout=5.0)


def test_importing_it_costs_nothing() -> None:
    """Loading the plugins imports nothing of the SDK: those who do not use the driver do not pay for it."""
    program = (
        "import sys, switchgear.plugins as p; r = p.Registry.load();"
        "print('awscrt' in r.known_drivers(), any(m.split('.')[0] in ('awscrt', '_awscrt', 'awsiot') for m in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "True False\n"


def test_missing_sdk() -> None:
    """Without the SDK the plugin is skipped, ``switchgear plugins`` and whoever names the driver are told what to install."""
    program = (
        "import sys; sys.modules['awscrt'] = None\n"
        "import switchgear, switchgear.cli.plugins_command as command; from switchgear.plugins import registry\n"
        "command.show(registry())\n"
        "try: switchgear.connect('mqtt://localhost', driver='awscrt', protocol='5')\n"
        "except switchgear.UnknownDriver as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True)
    *table, refusal = done.stdout.splitlines()
    row = next(line for line in table if line.startswith("awscrt"))
    assert "AWS's SDK is missing: pip install awsiotsdk" in row
    assert "drivers: paho" in table
    assert "AWS's SDK is missing: pip install awsiotsdk" in refusal


def test_broken_sdk(monkeypatch: pytest.MonkeyPatch) -> None:
    """An SDK that is there and cannot be loaded ends in one line that says what to install."""
    door._sdk.cache_clear()
    monkeypatch.setitem(sys.modules, "awscrt.mqtt5", None)
    try:
        with pytest.raises(InvalidOption) as caught:
            switchgear.connect("mqtt://localhost", driver="awscrt", protocol="5")
    finally:
        door._sdk.cache_clear()
    text = str(caught.value)
    assert "pip install awsiotsdk" in text
    assert "awscrt" in text
    assert "\n" not in text


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_fork_of_a_process_that_used_it() -> None:
    """In a child of a process that has connected, the driver is refused; it would hang there. In the parent it works on."""
    program = (
        "import os, sys, switchgear\n"
        "def connect(name): return switchgear.connect(sys.argv[1], client_id=name, driver='awscrt', protocol='5')\n"
        "if os.fork() == 0:\n"  # before it was used
        "    with connect('early') as transport: transport.wait_connected(30)\n"
        "    sys.exit()\n"
        "os.wait()\n"
        "with connect('parent') as transport:\n"
        "    transport.wait_connected(30)\n"
        "    if os.fork() == 0:\n"
        "        try: connect('late')\n"
        "        except switchgear.InvalidOption as error: print(error)\n"
        "        sys.stdout.flush()\n"
        "        os._exit(0)\n"
        "    os.wait()\n"
        "    transport.publish('a', qos=1).wait(30)\n"
    )
    with ThreadedBroker() as broker:
        done = subprocess.run(
            [sys.executable, "-c", program, broker.uri], capture_output=True, text=True, timeout=100, check=True
        )
        assert [entry.client_id for entry in broker.ledger.connects()] == ["early", "parent"]
    assert "does not survive a fork; start the child with the 'spawn' method" in done.stdout
    assert done.stdout.count("\n") == 1


def test_other_names() -> None:
    """A driver of another name is none of its business, and its options are not even looked at."""
    assert switchgear_awscrt.provide_driver("paho", SETTINGS, {"nonsense": 1}) is None


def test_options_of_the_plugin() -> None:
    """The options of ``plugin_options`` reach the driver, and a wrong one is refused when the transport is made."""
    with pytest.raises(InvalidOption, match="nonsense"):
        switchgear.connect(
            "mqtt://localhost", driver="awscrt", protocol="5", plugin_options={"awscrt": {"nonsense": 1}}
        )


def test_protocol() -> None:
    """MQTT 3.1.1 is refused when the transport is made, with what the driver speaks."""
    with pytest.raises(InvalidOption, match=r"'protocol'.*'awscrt' does not speak 3\.1\.1; valid options: 5"):
        switchgear.connect("mqtt://localhost", driver="awscrt", protocol="3.1.1")


async def test_protocol_by_default() -> None:
    """Who names no version gets the one that the driver speaks, and what comes with it."""
    async with Broker() as broker:
        await broker.start()
        async with switchgear.aio.connect(broker.uri, driver="awscrt", message_id=True) as transport:
            await transport.publish("t")
        published = broker.ledger.published()[0]
        assert published.properties.user_properties[0][0] == "message-id"


async def test_qos_2() -> None:
    """QoS 2 is refused where it is asked for: in a publish, a filter or the will, with the reason."""
    with pytest.raises(InvalidOption, match=r"will\.qos.*'awscrt' carries no QoS 2.*valid options: 0, 1"):
        switchgear.aio.connect("mqtt://localhost", driver="awscrt", protocol="5", will=Will(topic="w", qos=2))
    async with Broker() as broker:
        await broker.start()
        async with switchgear.aio.connect(broker.uri, driver="awscrt", protocol="5") as transport:
            for call in (lambda: transport.publish("t", b"", qos=2), lambda: transport.subscribe("t", qos=2)):
                with pytest.raises(InvalidOption, match=r"'qos'.*'awscrt' carries no QoS 2"):
                    call()
            subscription = transport.subscribe("t", qos=1)
            await transport.wait_connected(10)
            await transport.publish("t", b"hello", qos=1)
            async for message in subscription:
                assert message.payload == b"hello"
                break
