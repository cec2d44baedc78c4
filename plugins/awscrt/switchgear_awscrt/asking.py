"""The plugin's own secrets, asked for before each connection. On worker threads: a function of the user's may block."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from attrs import evolve, field, frozen
from switchgear.cause import Cause, Failure
from switchgear.drivers.base import AttemptFailed
from switchgear.errors import ConfigurationError
from switchgear.secrets import Secret
from switchgear.workers import SECRETS

if TYPE_CHECKING:
    from switchgear_awscrt.options import Authorizer


@frozen(eq=False)
class Asking:
    """Asks for one driver. What has not answered yet is not asked again, so that it takes one thread only."""

    _running: dict[int, asyncio.Future[bytes]] = field(factory=dict, init=False)

    async def ask(self, secret: Secret, name: str, timeout: float) -> bytes:
        """What *secret* is now; *name* is that of its option, *timeout* in seconds.

        Raises:
            AttemptFailed: it could not be had, or not in time: `Cause.CREDENTIALS_UNAVAILABLE`, without what it holds.
        """
        try:
            if not secret.is_dynamic:
                return secret.reveal()
            async with asyncio.timeout(timeout):
                return await asyncio.shield(self._asked(secret))
        except TimeoutError:
            why = f"asking for it took more than {timeout:g} s"
        except Exception as error:  # only our own errors are known to hold no secret
            why = str(error) if isinstance(error, ConfigurationError) else type(error).__name__
        raise _unavailable(name, why)

    def _asked(self, secret: Secret) -> asyncio.Future[bytes]:
        key = id(secret)
        running = self._running.get(key)
        if running is None:
            running = self._running[key] = asyncio.ensure_future(SECRETS.run(secret.reveal))
            running.add_done_callback(lambda done: (self._running.pop(key), done.cancelled() or done.exception()))
        return running

    async def authorizer(self, given: Authorizer, timeout: float) -> Authorizer:
        """*given*, with its secrets as they are now. Raises `AttemptFailed`, as `ask`."""
        return evolve(
            given,
            token=await self._text(given.token, "custom_authorizer.token", timeout),
            signature=await self._text(given.signature, "custom_authorizer.signature", timeout),
        )

    async def _text(self, secret: Secret | None, name: str, timeout: float) -> Secret | None:
        if secret is None:
            return None
        try:
            return Secret((await self.ask(secret, name, timeout)).decode())
        except UnicodeDecodeError:  # it quotes the secret
            raise _unavailable(name, "it is no UTF-8 text") from None


def _unavailable(name: str, why: str) -> AttemptFailed:
    return AttemptFailed(Failure(Cause.CREDENTIALS_UNAVAILABLE, f"{name}: {why}"))
