"""A program that publishes through a durable outbox and wedges its SDK until it has been re-executed often enough.

``wedging URI FOLDER RESTARTS [DRIVER [OPTIONS]]``: each image of the process appends a line of facts to FOLDER/images, and each payload that
was accepted to FOLDER/accepted. It leaks an inheritable connection each time, as aws-c-io does.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import switchgear
import switchgear_sdk_restart
from switchgear.plugins import registry
from switchgear.testing.wedge import Wedge

if TYPE_CHECKING:
    from switchgear.drivers.base import Driver, DriverSettings

MESSAGES = 4
"""Messages of each image before its SDK is wedged, and as many after."""

USED_UP = 9
"""Exit code of an image that is not replaced any more."""

wedge = Wedge(is_lasting=True)


class Wedgeable:
    """Provides the driver *name* with a wedge."""

    DRIVERS = ("wedgeable",)

    def __init__(self, name: str) -> None:
        self.name = name

    @switchgear.hookimpl
    def provide_driver(self, name: str, settings: DriverSettings) -> Driver | None:
        return wedge.around(registry().provide_driver(self.name, settings)) if name == "wedgeable" else None


def leak(uri: str, client_id: str) -> socket.socket:
    """A connection that an exec keeps, unless somebody sees to it."""
    host, port = uri.removeprefix("mqtt://").split(":")
    made = socket.create_connection((host, int(port)))
    made.set_inheritable(True)
    name = client_id.encode()
    made.sendall(bytes((0x10, 12 + len(name))) + b"\0\4MQTT\4\2\0\0\0" + bytes((len(name),)) + name)
    made.recv(4)
    return made


def main(uri: str, folder: str, restarts: str, driver: str = "paho", options: str = "{}", *_: str) -> None:
    """One image of the process."""
    number = len(switchgear_sdk_restart.history())
    facts = {
        "number": number,
        "pid": os.getpid(),
        "descriptors": len(os.listdir("/proc/self/fd")),  # noqa: PTH208 - numbers, not paths
        "threads": threading.active_count(),
        "native threads": len(os.listdir("/proc/self/task")),  # noqa: PTH208 - the same
        "argv": sys.argv[1:],
        "orig_argv": sys.orig_argv[1:],
        "executable": sys.executable,
        "prefix": sys.prefix,
        "warnings": sys.warnoptions,
        "dev_mode": sys.flags.dev_mode,
        "cwd": str(Path.cwd()),
        "variable": "SWITCHGEAR_SDK_RESTARTS" in os.environ,
        "whys": [restarted.why for restarted in switchgear_sdk_restart.history()],
        "at": time.time(),
    }
    with Path(folder, "images").open("a", encoding="utf-8") as file:
        file.write(json.dumps(facts) + "\n")
    kept = leak(uri, f"leak-{number}")
    accepted = Path(folder, "accepted").open("a", encoding="utf-8")  # noqa: SIM115 - it is to be open at the end

    def publish(how: str) -> None:
        for n in range(MESSAGES):
            payload = f"{number} {how} {n}"
            transport.publish("n", payload)
            accepted.write(payload + "\n")
            accepted.flush()

    with switchgear.connect(
        uri,
        client_id="press-7",
        driver="wedgeable",
        plugins=["sdk_restart", Wedgeable(driver)],
        plugin_options={"sdk_restart": {"escalate_to": "reexec", "rebuilds": 0, "budget": 100} | json.loads(options)},
        outbox=str(Path(folder, "outbox")),
        connect_timeout=0.03,
        ack_timeout=0.03,
        keepalive=0,
        protocol="5",
    ) as transport:
        transport.wait_connected(60)
        if number < int(restarts):
            publish("well")
            transport.drain(60)
            transport._on_loop(wedge.on)
            publish("wedged")
            while "are used up" not in transport.explain():  # it is replaced here
                time.sleep(0.02)
            os._exit(USED_UP)
        publish("at last")
        transport.drain(60)
    kept.close()
    accepted.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
