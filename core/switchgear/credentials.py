"""User names, passwords and certificate files of one transport: asked for before each connect, watched for changes.

Asks callables, and looks at files, on worker threads.
"""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING, Final

from attrs import field, frozen

from switchgear.cause import Cause, Failure
from switchgear.checks import fit_password
from switchgear.drivers.base import AttemptFailed, ConnectRequest
from switchgear.errors import ConfigurationError
from switchgear.workers import SECRETS

if TYPE_CHECKING:
    from collections.abc import Callable

    from switchgear.endpoint import Endpoint
    from switchgear.profile import Profile
    from switchgear.secrets import Secret

LOOK_AGAIN: Final = 5.0
"""Seconds between two looks at certificate files and passwords while an endpoint is quarantined because of them."""


@frozen
class Credentials:
    """What a profile says of who we are."""

    _profile: Profile
    _running: dict[int, asyncio.Future[bytes]] = field(factory=dict, init=False, eq=False, repr=False)

    async def of(self, endpoint: Endpoint) -> tuple[str | None, bytes | None]:
        """User name and password for *endpoint*; its own go before the profile's. Asked anew each time.

        Raises:
            AttemptFailed: they could not be had, or not within the hook timeout.
        """
        username = self._profile.username if endpoint.username is None else endpoint.username
        secret = self._profile.password if endpoint.password is None else endpoint.password
        return username, None if secret is None else await self._reveal(secret)

    async def visit(self, endpoint: Endpoint, *, timeout: float) -> ConnectRequest:
        """The CONNECT of one who only looks in: no session before, and none that stays. *timeout* is in seconds.

        Raises:
            AttemptFailed: as `of`.
        """
        username, password = await self.of(endpoint)
        return ConnectRequest(
            endpoint=endpoint,
            clean_start=True,
            keeps_session=False,
            username=username,
            password=password,
            timeout=timeout,
        )

    async def _reveal(self, secret: Secret) -> bytes:
        try:
            if not secret.is_dynamic:
                return fit_password(secret.reveal())
            async with asyncio.timeout(self._profile.hook_timeout):
                return fit_password(await self._ask(secret))
        except TimeoutError as error:
            detail = f"asking for the password took more than {self._profile.hook_timeout:g} s"
            raise AttemptFailed(Failure(Cause.CREDENTIALS_UNAVAILABLE, detail)) from error
        except Exception as error:
            # Only our own errors are known to hold no secret.
            detail = str(error) if isinstance(error, ConfigurationError) else type(error).__name__
            raise AttemptFailed(Failure(Cause.CREDENTIALS_UNAVAILABLE, detail)) from error

    async def _ask(self, secret: Secret) -> bytes:
        """What *secret* is now; while a function has not answered it is not asked again, so that it takes one thread only."""
        key = id(secret)
        running = self._running.get(key)
        if running is None:
            running = self._running[key] = asyncio.ensure_future(SECRETS.run(secret.reveal))
            running.add_done_callback(lambda done: (self._running.pop(key), done.cancelled() or done.exception()))
        return await asyncio.shield(running)

    async def changed(self, matters: Callable[[], bool]) -> bool:
        """Whether the files of ``tls`` or the password change while *matters* says that it still does."""
        before = await self._fingerprint()
        while matters():
            await asyncio.sleep(LOOK_AGAIN)
            if await self._fingerprint() != before:
                return True
        return False

    async def _fingerprint(self) -> object:
        """Something that is another value when the files of ``tls`` or the password have changed."""
        tls = self._profile.tls
        files = None if tls is None else await tls.workers.run(tls.fingerprint)
        secret = self._profile.password
        if secret is None or not secret.is_dynamic:
            return files
        try:
            return files, hashlib.sha256(await self._reveal(secret)).digest()
        except AttemptFailed:
            return files, None
