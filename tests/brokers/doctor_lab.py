"""What ``switchgear doctor`` says of names that the system's own resolver looks up; run by ``test_doctor.py`` in a namespace.

    doctor_lab.py FOLDER

The last line of the output is what was said, as JSON: scenario, check, verdict, text and way out.
"""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from switchgear.testing import ThreadedBroker
from switchgear.testing.dns import ThreadedDnsServer
from switchgear.testing.processes import make_tls_files
from switchgear.testing.processes.regions import enter

if TYPE_CHECKING:
    from collections.abc import Callable

NAME: Final = "mqtt1.example.test"
ZONE_SERVER: Final = "127.0.0.4"


def main(folder: Path) -> None:
    """Look at one broker while its name is well, stale, gone, failing, in a circle, and silent."""
    enter(folder)
    files = make_tls_files(folder / "tls", names=(NAME,))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.cert_file, files.key_file)
    with (
        ThreadedDnsServer(port=53) as system,
        ThreadedDnsServer(host=ZONE_SERVER, port=53) as zone,
        ThreadedBroker(ssl=context) as broker,
    ):
        for server in (system, zone):
            server.set_a("east.iot.test", "127.0.0.1")
            server.set_a("west.iot.test", "127.0.0.3")
            server.set_cname(NAME, "east.iot.test")
        system.set_ns("example.test", "ns.zone.test")
        system.set_a("ns.zone.test", ZONE_SERVER)

        def look() -> dict[str, Any]:
            where = f"mqtts://{NAME}:{broker.port}"
            options = ["--ca-file", str(files.ca_file), "--timeout", "2", "--json"]
            command = [sys.executable, "-m", "switchgear", "doctor", where, *options]
            ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
            if ended.stderr:
                raise SystemExit(ended.stderr)
            told = json.loads(ended.stdout)
            lines = {f["check"]: [f["verdict"], f["found"], f["way_out"]] for f in told["findings"]}
            return {"code": told["exit_code"], **lines}

        def close_the_circle() -> None:
            system.fail(NAME, None)
            system.set_cname("east.iot.test", NAME)

        scenarios: dict[str, Callable[[], None]] = {
            "well": lambda: None,
            "stale": lambda: zone.set_cname(NAME, "west.iot.test"),
            "nxdomain": lambda: system.fail(NAME, "nxdomain"),
            "servfail": lambda: system.fail(NAME, "servfail"),
            "silent": lambda: system.fail(NAME, "silent"),
            "loop": close_the_circle,
        }
        said = {}
        for scenario, begin in scenarios.items():
            begin()
            said[scenario] = look()
    print(json.dumps(said))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
