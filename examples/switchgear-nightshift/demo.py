import time
from pathlib import Path

import switchgear
from switchgear.testing import ThreadedBroker

file = Path("somebody-works-on-the-broker")
options = {"nightshift": {"file": str(file), "check_every": 3}}
with (
    ThreadedBroker() as broker,
    switchgear.connect(broker.uri, plugins=["nightshift"], plugin_options=options) as transport,
):
    transport.wait_connected(10)
    file.touch()
    broker.kill()
    broker.restart()
    time.sleep(1)
    print("while the file is there:", transport.state.value)
    file.unlink()
    transport.wait_connected(10)
    print("without it:", transport.state.value)
