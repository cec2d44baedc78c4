"""What a drill strikes: a broker of Amazon MQ, which it reboots, or a local ActiveMQ pair, whose active one it kills."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from attrs import define, field

from switchgear_activemq.amazon_mq.aws import AmazonMq, AwsUnavailable

if TYPE_CHECKING:
    from switchgear.testing.processes import ActiveMQPair

LOOK: Final = 5.0
"""Seconds between two looks at a broker's state; Amazon MQ's API takes 15 calls a second from one account."""
SLOW_START: Final = 60.0
"""Seconds after which a broker that was RUNNING all the time is believed: a reboot begins a while after it was ordered."""


@define
class AmazonBroker:
    """A broker of Amazon MQ. Rebooting a pair restarts the active broker, then the other one."""

    amazon_mq: AmazonMq
    broker_id: str
    deed: str = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.deed = f"rebooted {self.broker_id} in {self.amazon_mq.region}"

    async def strike(self) -> None:
        """Order the reboot."""
        await asyncio.to_thread(self.amazon_mq.reboot_broker, self.broker_id)

    async def wait_back(self) -> None:
        """Return when Amazon MQ calls it RUNNING again; an API that does not answer is asked again."""
        loop = asyncio.get_running_loop()
        began, was_away = loop.time(), False
        while True:
            await asyncio.sleep(LOOK)
            try:
                answer = await asyncio.to_thread(self.amazon_mq.describe_broker, self.broker_id)
            except AwsUnavailable:
                continue
            is_running = answer.get("BrokerState") == "RUNNING"
            if is_running and (was_away or loop.time() - began >= SLOW_START):
                return
            was_away = was_away or not is_running


@define
class LocalPair:
    """Two ActiveMQ processes on one store on this machine."""

    pair: ActiveMQPair
    deed: str = "killed the active broker of the local pair"

    async def strike(self) -> None:
        """Kill the active one, and start it again: it becomes the standby."""
        killed = await asyncio.to_thread(self.pair.kill_active)
        await asyncio.to_thread(self.pair.start_broker, killed)

    async def wait_back(self) -> None:
        """Return when the killed one waits for the store's lock."""
        await asyncio.to_thread(self.pair.wait_standby, 60)
