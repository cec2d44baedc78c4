"""The driver: dials by itself, and has the SDK speak TLS and MQTT 5 on what it dialled. Does I/O; see `relay`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, cast

from attrs import evolve
from switchgear.cause import Cause, Failure, from_exception
from switchgear.drivers.base import AttemptFailed, ConnectRequest, DriverFeatures, DriverSettings, Link, Listener, Route
from switchgear.drivers.link import open_link
from switchgear.errors import InvalidOption, SwitchgearError
from switchgear.tls import TLS
from switchgear.workers import LOOKUPS

from switchgear_awscrt.asking import Asking
from switchgear_awscrt.causes import VAGUE
from switchgear_awscrt.client import alpn_of, make_client
from switchgear_awscrt.connection import CrtConnection
from switchgear_awscrt.identity import read_identity, sdk_context
from switchgear_awscrt.probe import FINDINGS, probe
from switchgear_awscrt.proxy import ask_proxy
from switchgear_awscrt.relay import Door, Relay
from switchgear_awscrt.sdk import Stack, discard, sdk, stack

if TYPE_CHECKING:
    from switchgear.drivers.link_base import ByteLink
    from switchgear.endpoint import Endpoint

    from switchgear_awscrt.identity import Identity
    from switchgear_awscrt.options import Options

DOUBT: Final = 0.5
"""Seconds of TLS after which a probe looks whether the SDK waits with bad news; half the deadline where that is less."""

SDK_REFUSES: Final = (
    "AWS's SDK breaks off a handshake that Python's TLS completes; it does so where a broker does not ask for the "
    "certificate that it was given: leave out cert_file for such a broker"
)

NO_ANSWER: Final = (
    "before it answered CONNECT; check that this port speaks MQTT 5, and whether it wants TLS or WebSockets"
)


class CrtDriver:
    """AWS's SDK behind the driver port."""

    name = "awscrt"
    features = DriverFeatures(
        protocols=frozenset({"5"}),
        qos=frozenset({0, 1}),
        dials_tls=False,
        resumes_packet_ids=False,
        sends_pingreq=False,
        reports_duplicates=False,
        checks_packet_size=False,
        checks_text=False,
    )

    def __init__(self, settings: DriverSettings, options: Options) -> None:
        _check(settings, options)
        self._settings = settings
        self._options = options
        self._asking = Asking()
        self._stack: Stack | None = None

    async def dial(self, endpoint: Endpoint) -> Link:
        """Open TCP, through the proxy if there is one; TLS and WebSocket are the SDK's. Raises `AttemptFailed`."""
        return await self.open(endpoint)

    def route_to(self, endpoint: Endpoint) -> Route:
        """See `switchgear.drivers.base.Routed`."""
        proxy = self._options.http_proxy
        first = endpoint if proxy is None else evolve(endpoint, host=proxy.host, port=proxy.port, address=None)
        return Route(first, alpn_of(self._settings.tls or TLS(), self._options, endpoint))

    async def open(self, endpoint: Endpoint) -> ByteLink:
        """See `switchgear.drivers.base.Routed`."""
        proxy = self._options.http_proxy
        first = evolve(self.route_to(endpoint).first, scheme="mqtt", path="")
        if proxy is None:
            return await open_link(first, self._settings)
        try:
            stream = await open_link(first, self._settings)
        except AttemptFailed as error:
            failure = error.failure
            where = f"proxy {proxy.host}:{proxy.port}"
            detail = f"{where}: {failure.detail}" if failure.detail else where
            raise AttemptFailed(evolve(failure, detail=detail)) from error
        timeout = self._timeout(endpoint)
        try:
            password = b""
            if proxy.password is not None:
                password = await self._asking.ask(proxy.password, "http_proxy.password", timeout)
            await ask_proxy(stream, proxy, password, endpoint, timeout)
        except BaseException:
            stream.abort()
            raise
        return stream

    def _timeout(self, endpoint: Endpoint) -> float:
        return endpoint.connect_timeout or self._settings.connect_timeout

    async def connect(self, link: Link, request: ConnectRequest, listener: Listener) -> CrtConnection:
        """Have the SDK speak on *link*: TLS, WebSocket, CONNECT; wait for CONNACK. Raises `AttemptFailed`."""
        endpoint = request.endpoint
        target = endpoint.authority if endpoint.is_tls else None
        relay = Relay(cast("ByteLink", link), target=target, is_tls=endpoint.is_tls, holds=request.turn is not None)
        connection = CrtConnection(sdk(), relay, self._settings, listener)
        try:
            identity = await self._identity(endpoint) if endpoint.is_tls else None
            options = self._options
            if options.custom_authorizer is not None:
                authorizer = await self._asking.authorizer(options.custom_authorizer, self._timeout(endpoint))
                options = evolve(options, custom_authorizer=authorizer)
            with Door() as door:
                client = await LOOKUPS.run(
                    lambda: self._client(options, request, identity, door, connection.callbacks())
                )
                connection.start(client)
                await self._secured(connection, relay, door, endpoint)
            await self._let_go(connection, relay, request)
            await self._acknowledged(connection, relay, request)
        except BaseException as error:
            connection.abort()
            if isinstance(error, AttemptFailed | asyncio.CancelledError):
                raise
            if isinstance(error, SwitchgearError):
                raise AttemptFailed(Failure(Cause.CREDENTIALS_UNAVAILABLE, str(error))) from error
            raise AttemptFailed(from_exception(error)) from error
        return connection

    async def _identity(self, endpoint: Endpoint) -> Identity:
        """Who we are; a disk or a function of the user's that hangs is not the SDK's fault."""
        tls, timeout = self._settings.tls or TLS(), self._timeout(endpoint)
        try:
            async with asyncio.timeout(timeout):
                return await tls.workers.run(lambda: read_identity(tls))
        except TimeoutError as error:
            detail = f"certificates and key could not be read in {timeout:g} s"
            raise AttemptFailed(Failure(Cause.CREDENTIALS_UNAVAILABLE, detail)) from error

    def _client(
        self,
        options: Options,
        request: ConnectRequest,
        identity: Identity | None,
        door: Door,
        callbacks: dict[str, Any],
    ) -> Any:
        self._stack = stack()
        return make_client(self._settings, options, request, identity, door, self._stack.bootstrap, callbacks)

    async def _secured(self, connection: CrtConnection, relay: Relay, door: Door, endpoint: Endpoint) -> None:
        """Wait until the SDK has come through *door* and is done with TLS, or has failed."""
        timeout = self._timeout(endpoint)

        async def secure() -> None:
            await self._entered(connection, relay, door, timeout)
            async with asyncio.timeout(timeout):
                await asyncio.shield(relay.secured)

        waits: list[asyncio.Future[Any]] = [asyncio.ensure_future(secure()), connection.acknowledged]
        if endpoint.is_tls:
            waits.append(asyncio.ensure_future(self._doubt(endpoint, min(DOUBT, timeout / 2))))
        try:
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for each in done - {connection.acknowledged}:
                each.result()
        except TimeoutError as error:
            detail = f"no TLS session with {endpoint.authority} in {timeout:g} s"
            raise AttemptFailed(Failure(Cause.TLS_TIMEOUT, detail)) from error
        finally:
            for each in waits:
                if each is not connection.acknowledged:
                    each.cancel()

    async def _entered(self, connection: CrtConnection, relay: Relay, door: Door, timeout: float) -> None:
        """Wait until the SDK has come through *door*.

        It does so without the broker's help, so that has no deadline here: an SDK that never comes is wedged, and the core
        ends the attempt as DRIVER_SILENT. But before it comes it asks for the credentials to sign with, and they may hang.
        """
        if self._options.sigv4 is None:
            await relay.open(door)
            return
        await asyncio.shield(connection.attempted)
        try:
            async with asyncio.timeout(timeout):
                await relay.open(door)
        except TimeoutError as error:
            detail = f"AWS's SDK has found no credentials to sign with in {timeout:g} s (connect_timeout)"
            raise AttemptFailed(Failure(Cause.CREDENTIALS_UNAVAILABLE, detail)) from error

    async def _doubt(self, endpoint: Endpoint, delay: float) -> None:
        """After *delay* seconds see what TLS fails of, and raise it; where it does not fail, wait for ever."""
        await asyncio.sleep(delay)
        failure = await self._probe(endpoint)
        if failure is not None and failure.cause is not Cause.TLS_FAILED:
            raise AttemptFailed(failure)
        await asyncio.get_running_loop().create_future()

    @staticmethod
    async def _let_go(connection: CrtConnection, relay: Relay, request: ConnectRequest) -> None:
        """Hold CONNECT until its turn in the budget of a fleet has come: the SDK takes differently long to get there."""
        if request.turn is None:
            return
        ends = {relay.holding, connection.acknowledged}
        await asyncio.wait(ends, timeout=request.timeout, return_when=asyncio.FIRST_COMPLETED)
        if not connection.acknowledged.done():
            await request.turn()
        relay.release()

    async def _acknowledged(self, connection: CrtConnection, relay: Relay, request: ConnectRequest) -> None:
        endpoint = request.endpoint
        try:
            async with asyncio.timeout(request.timeout):
                await asyncio.shield(connection.acknowledged)
        except TimeoutError as error:
            if endpoint.is_websocket and not relay.has_heard:
                detail = f"no answer to the WebSocket upgrade in {request.timeout:g} s"
                raise AttemptFailed(Failure(Cause.WEBSOCKET_REFUSED, detail)) from error
            unheard = "answer to the WebSocket upgrade, or CONNACK," if endpoint.scheme == "wss" else "CONNACK"
            detail = f"no {unheard} from {endpoint.authority} in {request.timeout:g} s"
            raise AttemptFailed(Failure(Cause.CONNACK_TIMEOUT, detail)) from error
        except AttemptFailed as error:
            connection.abort()
            raise AttemptFailed(await self._explained(error.failure, relay, endpoint)) from error

    async def _explained(self, failure: Failure, relay: Relay, endpoint: Endpoint) -> Failure:
        """*failure*, with what a probe of our own finds where the SDK does not say which side refused what.

        Over TLS 1.3 a broker refuses our certificate when we are done with TLS, so that does not say much.
        """
        if failure.cause is Cause.WEBSOCKET_REFUSED:
            return evolve(failure, detail=f"{failure.detail} {self._status()}")
        is_vague = failure.cause in VAGUE and failure.code is None
        if endpoint.is_tls and (is_vague or failure.cause is Cause.TLS_FAILED):
            found = await self._probe(endpoint)
            if found is not None:
                return found
            if not relay.secured.done():
                is_theirs = relay.is_over and not relay.has_objected
                why = "the connection was closed during the handshake" if is_theirs else SDK_REFUSES
                return Failure(Cause.TLS_FAILED, why)
            is_vague = True
        if not is_vague:
            return failure
        cause = failure.cause if failure.cause in VAGUE else Cause.CLOSED_BY_BROKER
        return Failure(cause, NO_ANSWER)

    def _status(self) -> str:
        """What the SDK does not tell: with which status a broker refused the WebSocket."""
        if self._options.sigv4 is not None:
            return "AWS IoT does so (403) where it does not take the credentials, the region, their policy or this machine's clock"
        if self._options.custom_authorizer is not None:
            return "AWS IoT does so (403) where the authorizer says no; check its name, token and signature"
        return "The SDK does not tell the HTTP status"

    async def _probe(self, endpoint: Endpoint) -> Failure | None:
        """What TLS with *endpoint* fails of; None: it does not, or that cannot be said."""
        tls = evolve(self._settings.tls or TLS(), alpn=())
        try:
            async with asyncio.timeout(self._timeout(endpoint)):
                context, fingerprint = await tls.workers.run(lambda: (tls.context(warns=False), tls.fingerprint()))
        except (SwitchgearError, TimeoutError):  # the attempt itself says it
            return None

        async def look() -> Failure | None:
            try:
                stream = await self.open(endpoint)
            except AttemptFailed:  # no answer is no answer
                return None
            return await probe(stream, context, endpoint.host, self._timeout(endpoint))

        return await FINDINGS.about((endpoint.key, fingerprint), look)

    def close(self) -> None:
        """Nothing is held between connections but what all share."""
        self._stack = None

    def discard(self) -> None:
        """See `switchgear.drivers.base.Discardable`: the SDK's thread may hang, so the next driver has another."""
        if self._stack is not None:
            discard(self._stack)
        self.close()


def _check(settings: DriverSettings, options: Options) -> None:
    """Raise what would make every attempt fail: a missing SDK, files or bytes that it cannot use; reads the files."""
    made = sdk()
    identity = read_identity(settings.tls)
    if options.is_for_aws and identity.certificate is not None:
        why = "plugin awscrt: sigv4 and custom_authorizer show no certificate; leave out cert_file, or them"
        raise InvalidOption("cert_file", why)
    if identity.ca is not None or identity.certificate is not None:
        sdk_context(made.io, identity, alpn=(), verify=True)
