"""CONNECT and its answer; attaching a session to a connection, and detaching it when the connection ends."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from switchgear.testing.broker import faults, reasons
from switchgear.testing.broker.ledger import Connected
from switchgear.testing.broker.outgoing import Sender
from switchgear.testing.broker.packets import Connack, Connect, Will
from switchgear.testing.broker.properties import Properties
from switchgear.testing.broker.routing import route
from switchgear.testing.broker.store import FOREVER, Message, Session

if TYPE_CHECKING:
    from switchgear.testing.broker.connection import Connection
    from switchgear.testing.broker.context import Context


def connect(connection: Connection, packet: Connect) -> None:
    """Handle the CONNECT of a new connection, as the faults allow."""
    context = connection.context
    connection.version = packet.version
    connection.rename(packet.client_id)
    if context.faults.take(faults.SILENCE):
        connection.is_silent = True
        _record(connection, packet, code=None)
        return
    delay = context.faults.take_delay()
    if delay:
        connection.hold(delay, lambda: _answer(connection, packet))
    else:
        _answer(connection, packet)


def detach(connection: Connection, session: Session, *, is_killed: bool) -> None:
    """Let go of the session: publish the will, unless it was withdrawn or the broker was killed, and start the expiry."""
    context, now = connection.context, connection.now
    will, connection.will = connection.will, None
    if session.link is connection.sender:
        session.link = None
        if not session.expiry:
            context.store.forget(session)
        elif session.expiry < FOREVER:
            session.expires_at = now + session.expiry
    if will is None or is_killed:
        return
    message = _message(will, connection.client_id, now)
    delay = min(will.properties.will_delay_interval or 0, session.expiry)
    if not delay:
        route(context.store, message, now=now)
        return
    timer = asyncio.get_running_loop().call_later(delay, _publish_will, context, connection.client_id)
    context.wills[connection.client_id] = (timer, message)


def _publish_will(context: Context, client_id: str) -> None:
    timer, message = context.wills.pop(client_id)
    timer.cancel()
    route(context.store, message, now=asyncio.get_running_loop().time())


def _message(will: Will, client_id: str, now: float) -> Message:
    expiry = will.properties.message_expiry_interval
    expires_at = None if expiry is None else now + expiry
    return Message(will.topic, will.payload, will.qos, will.is_retained, will.properties, client_id, expires_at)


def _answer(connection: Connection, packet: Connect) -> None:
    context = connection.context
    refusal = context.faults.take_refusal() or _refusal(context, packet)
    if refusal is not None:
        _refuse(connection, packet, refusal)
        return
    client_id = packet.client_id or _new_client_id(context)
    connection.rename(client_id)
    connection.user = packet.username
    connection.will = packet.will
    session, is_present = _session(connection, packet, client_id)
    connection.session = session
    connection.sender = session.link = Sender(connection, session, packet)
    _record(connection, packet, code=reasons.SUCCESS, session_present=is_present)
    connection.send(Connack(reasons.SUCCESS, is_present, _connack_properties(context, packet, client_id)))
    if context.faults.take(faults.DROP_AFTER_CONNACK):
        connection.close(faults.DROP_AFTER_CONNACK)
        return
    is_5 = packet.version == 5
    connection.watch(context.server_keep_alive if is_5 and context.server_keep_alive is not None else packet.keepalive)
    connection.sender.resume()


def _refusal(context: Context, packet: Connect) -> faults.Refusal | None:
    if packet.properties.authentication_method is not None:
        return faults.Refusal(reasons.BAD_AUTHENTICATION_METHOD)
    if not packet.client_id and not packet.clean and packet.version == 4:
        return faults.Refusal(reasons.CLIENT_ID_NOT_VALID)
    if context.users is not None:
        known = context.users.get(packet.username) if packet.username is not None else None
        if known is None or packet.password != known.encode():
            return faults.Refusal(reasons.BAD_CREDENTIALS)
    return None


def _refuse(connection: Connection, packet: Connect, refusal: faults.Refusal) -> None:
    code = reasons.connack_code(refusal.code, version=packet.version)
    _record(connection, packet, code=code)
    connection.send(Connack(code, properties=Properties(server_reference=refusal.server_reference)))
    connection.close("refused")


def _session(connection: Connection, packet: Connect, client_id: str) -> tuple[Session, bool]:
    """The session to go on with, and whether it was there before."""
    context, store, now = connection.context, connection.context.store, connection.now
    old = store.session(client_id, now=now)
    if old is not None and old.link is not None:
        old.link.supersede()
        old = store.session(client_id, now=now)
    if client_id in context.wills:
        if packet.clean or old is None:
            _publish_will(context, client_id)  # its session ends here: MQTT 5.0, 3.1.3.2.2
        else:
            context.wills.pop(client_id)[0].cancel()
    is_present = old is not None and not packet.clean
    session = old if old is not None and is_present else store.create(client_id)
    session.expires_at = None
    if packet.version == 5:
        session.expiry = packet.properties.session_expiry_interval or 0
    else:
        session.expiry = 0 if packet.clean else FOREVER
    return session, is_present


def _new_client_id(context: Context) -> str:
    while True:
        client_id = f"auto-{context.rng.getrandbits(48):012x}"
        if client_id not in context.store.sessions:
            return client_id


def _connack_properties(context: Context, packet: Connect, client_id: str) -> Properties:
    return Properties(
        receive_maximum=context.receive_maximum,
        maximum_packet_size=context.maximum_packet_size,
        topic_alias_maximum=0,
        assigned_client_identifier=None if packet.client_id else client_id,
        server_keep_alive=context.server_keep_alive,
    )


def _record(connection: Connection, packet: Connect, *, code: int | None, session_present: bool = False) -> None:
    connection.context.ledger.record(
        Connected(
            at=connection.now,
            origin=connection.origin,
            version=packet.version,
            clean=packet.clean,
            keepalive=packet.keepalive,
            username=packet.username,
            session_present=session_present,
            code=code,
        )
    )
