"""The same as `switchgear.connect`, for asyncio: ``async with switchgear.aio.connect(...) as transport``."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from switchgear.profile import Profile
from switchgear.subscription import Subscription
from switchgear.transport import AsyncTransport

if TYPE_CHECKING:
    from collections.abc import Sequence

    from switchgear.endpoint import Endpoint, Group

__all__ = ["AsyncTransport", "Subscription", "connect"]


def connect(
    where: str | Endpoint | Group | Sequence[str | Endpoint | Group] | Profile, **options: object
) -> AsyncTransport:
    """A transport to *where* on the running event loop. It returns at once; connecting goes on behind it.

    *where* and *options* are those of `switchgear.connect`. Outside a running loop it starts when it is entered with
    ``async with`` or awaited.

    Raises:
        ConfigurationError: something that was given cannot work; the message says what and the way out.
    """
    transport = AsyncTransport(Profile.of(where, **options))
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return transport
    return transport.start()
