"""What a connected client sends: messages, subscriptions, acknowledgements, its farewell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from switchgear.testing.broker import faults, reasons
from switchgear.testing.broker.ledger import Published, Repeated, Subscribed, Unsubscribed
from switchgear.testing.broker.outgoing import note
from switchgear.testing.broker.packets import (
    Disconnect,
    Packet,
    Pingreq,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    Subscription,
    Unsuback,
    Unsubscribe,
)
from switchgear.testing.broker.routing import route, send_retained
from switchgear.testing.broker.store import Message
from switchgear.testing.broker.topics import is_filter, split_share

if TYPE_CHECKING:
    from collections.abc import Callable

    from switchgear.testing.broker.connection import Connection
    from switchgear.testing.broker.outgoing import Sender
    from switchgear.testing.broker.store import Session


def acknowledge(connection: Connection, packet: Packet) -> None:
    """Answer a PUBLISH, and meet the fault that strikes after a PUBREC."""
    if connection.has_ended:
        return
    if isinstance(packet, Puback) or (isinstance(packet, Pubrec) and packet.code >= reasons.UNSPECIFIED_ERROR):
        connection.answer(packet)
    else:
        connection.send(packet)  # QoS 2 is answered for good by PUBCOMP
    assert isinstance(packet, Puback | Pubrec)
    note(connection, packet, is_sent=True)
    if isinstance(packet, Pubrec) and connection.context.faults.take(faults.DROP_AFTER_PUBREC):
        connection.close(faults.DROP_AFTER_PUBREC)


def _publish(connection: Connection, packet: Publish) -> None:
    context, session = connection.context, _session(connection)
    fault = context.faults.take_publish(packet.topic)
    if fault:
        connection.drop(fault)
        return
    about = packet.properties
    if about.topic_alias is not None:
        connection.fail(reasons.TOPIC_ALIAS_INVALID, "topic aliases are not supported")
        return
    if about.subscription_identifiers:
        connection.fail(reasons.PROTOCOL_ERROR, "a client may not publish with a subscription identifier")
        return
    qos, packet_id = packet.qos, packet.packet_id
    if qos:
        is_repeat = qos == 2 and packet_id in session.inbound
        connection.open_in += 1
        if connection.open_in > context.receive_maximum and connection.version == 5:
            connection.fail(reasons.RECEIVE_MAXIMUM_EXCEEDED, "more messages at once than the receive maximum")
            return
        if is_repeat:
            _record_repeat(connection, packet)
    else:
        is_repeat = False
    code = reasons.SUCCESS
    if not is_repeat:
        if context.allows(connection.user, "publish", packet.topic):
            _accept(connection, session, packet)
        elif connection.version == 5:
            code = reasons.NOT_AUTHORIZED
    if fault is not None:
        connection.drop(faults.DROP_AFTER_PUBLISH)
    elif qos:
        answer = Puback(packet_id, code) if qos == 1 else Pubrec(packet_id, code)
        if context.faults.take(faults.WITHHOLD_ACKS):
            connection.withheld.append(answer)
        else:
            acknowledge(connection, answer)


def _accept(connection: Connection, session: Session, packet: Publish) -> None:
    """Put the message into the store for everyone who is to have it; only then may it be acknowledged."""
    context, now = connection.context, connection.now
    ledger = context.ledger
    if ledger.keep:
        ledger.record(
            Published(
                at=now,
                origin=connection.origin,
                topic=packet.topic,
                payload=packet.payload,
                qos=packet.qos,
                dup=packet.dup,
                is_retained=packet.is_retained,
                packet_id=packet.packet_id,
                properties=packet.properties,
            )
        )
    else:
        ledger.count(Published)
    if packet.qos == 2:
        session.inbound.add(packet.packet_id)
    expiry = packet.properties.message_expiry_interval
    route(
        context.store,
        Message(
            packet.topic,
            packet.payload,
            packet.qos,
            packet.is_retained,
            packet.properties,
            session.client_id,
            None if expiry is None else now + expiry,
        ),
        now=now,
    )


def _record_repeat(connection: Connection, packet: Publish) -> None:
    connection.context.ledger.record(
        Repeated(
            at=connection.now,
            origin=connection.origin,
            topic=packet.topic,
            payload=packet.payload,
            packet_id=packet.packet_id,
            dup=packet.dup,
        )
    )


def _pubrel(connection: Connection, packet: Pubrel) -> None:
    note(connection, packet, is_sent=False)
    inbound = _session(connection).inbound
    code = reasons.SUCCESS if packet.packet_id in inbound else reasons.PACKET_ID_NOT_FOUND
    inbound.discard(packet.packet_id)
    answer = Pubcomp(packet.packet_id, code if connection.version == 5 else 0)
    connection.answer(answer)
    note(connection, answer, is_sent=True)


def _subscribe(connection: Connection, packet: Subscribe) -> None:
    context, session = connection.context, _session(connection)
    identifiers = packet.properties.subscription_identifiers
    identifier = identifiers[0] if identifiers else None
    codes, granted = [], []
    for subscription in packet.subscriptions:
        code = _grant(connection, subscription)
        if code >= reasons.UNSPECIFIED_ERROR and connection.version == 4:
            code = reasons.UNSPECIFIED_ERROR
        if code == reasons.PROTOCOL_ERROR:
            connection.fail(code, "a shared subscription cannot have no-local")
            return
        codes.append(code)
        context.ledger.record(
            Subscribed(
                at=connection.now,
                origin=connection.origin,
                filter=subscription.filter,
                qos=subscription.qos,
                code=code,
            )
        )
        if code >= reasons.UNSPECIFIED_ERROR:
            continue
        is_new = context.store.subscribe(session, subscription, identifier=identifier)
        if subscription.retain_handling == 0 or (subscription.retain_handling == 1 and is_new):
            granted.append(subscription)
    connection.send(Suback(packet.packet_id, tuple(codes)))
    for subscription in granted:
        if split_share(subscription.filter) is None:
            send_retained(context.store, session, subscription, identifier=identifier, now=connection.now)


def _grant(connection: Connection, subscription: Subscription) -> int:
    """The code for SUBACK."""
    name = subscription.filter
    if not is_filter(name):
        return reasons.TOPIC_FILTER_INVALID
    if subscription.no_local and split_share(name):
        return reasons.PROTOCOL_ERROR
    code = connection.context.faults.take_subscribe(name)
    if code is not None:
        return code
    if not connection.context.allows(connection.user, "subscribe", name):
        return reasons.NOT_AUTHORIZED
    return subscription.qos


def _unsubscribe(connection: Connection, packet: Unsubscribe) -> None:
    context, session = connection.context, _session(connection)
    codes = []
    for name in packet.filters:
        existed = context.store.unsubscribe(session, name)
        codes.append(reasons.SUCCESS if existed else reasons.NO_SUBSCRIPTION_EXISTED)
        context.ledger.record(Unsubscribed(at=connection.now, origin=connection.origin, filter=name, existed=existed))
    connection.send(Unsuback(packet.packet_id, tuple(codes)))


def _disconnect(connection: Connection, packet: Disconnect) -> None:
    session, expiry = _session(connection), packet.properties.session_expiry_interval
    if expiry is not None:
        if expiry and not session.expiry:
            connection.fail(reasons.PROTOCOL_ERROR, "a session that ends with its connection cannot be prolonged")
            return
        session.expiry = expiry
    if packet.code == reasons.SUCCESS:
        connection.will = None
    connection.close("disconnect", heard=packet.code)


def _session(connection: Connection) -> Session:
    assert connection.session is not None
    return connection.session


def _sender(connection: Connection) -> Sender:
    assert connection.sender is not None
    return connection.sender


HANDLERS: Final[dict[type[Packet], Callable[[Connection, Any], None]]] = {
    Publish: _publish,
    Puback: lambda connection, packet: _sender(connection).on_puback(packet),
    Pubrec: lambda connection, packet: _sender(connection).on_pubrec(packet),
    Pubrel: _pubrel,
    Pubcomp: lambda connection, packet: _sender(connection).on_pubcomp(packet),
    Subscribe: _subscribe,
    Unsubscribe: _unsubscribe,
    Pingreq: lambda connection, _packet: connection.ping(),
    Disconnect: _disconnect,
}
