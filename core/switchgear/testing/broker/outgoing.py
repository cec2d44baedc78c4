"""Messages on their way to one client: the window, acknowledgements, and sending again after a resume."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from attrs import evolve

from switchgear.testing.broker import reasons
from switchgear.testing.broker.codec import encode
from switchgear.testing.broker.ledger import Acked, Delivered
from switchgear.testing.broker.packets import Connect, Puback, Pubcomp, Publish, Pubrec, Pubrel

if TYPE_CHECKING:
    from switchgear.testing.broker.connection import Connection
    from switchgear.testing.broker.store import Outgoing, Session


class Sender:
    """Sends what a session has for its client, on one connection; it is the session's `Link`.

    At most `receive_maximum` PUBLISHes with a QoS above 0 are unacknowledged on this connection. A message larger
    than the client's maximum packet size, or expired, is dropped (MQTT 5.0, 3.1.2.11.4 and 3.3.2.3.3).
    """

    def __init__(self, connection: Connection, session: Session, packet: Connect) -> None:
        self._connection = connection
        self._session = session
        self._receive_maximum = packet.properties.receive_maximum or 0xFFFF
        self._maximum_packet_size = packet.properties.maximum_packet_size
        self.tells_why = packet.properties.request_problem_information != 0
        self._unacknowledged: set[int] = set()
        self._again: deque[int] = deque()

    def resume(self) -> None:
        """Send again what an earlier connection left unacknowledged, then what was queued."""
        for packet_id, outgoing in self._session.inflight.items():
            if outgoing.is_released:
                self._ack(Pubrel(packet_id))
            else:
                self._again.append(packet_id)
        self.pump()

    def pump(self) -> None:
        """Send what the session has, as far as the window allows."""
        session, now = self._session, self._connection.now
        while len(self._unacknowledged) < self._receive_maximum:
            if self._again:
                packet_id = self._again.popleft()
                outgoing = session.inflight[packet_id]
                if not self._publish(outgoing, packet_id, dup=True, now=now):
                    del session.inflight[packet_id]
                    continue
            elif session.queue and len(session.inflight) < 0xFFFF:
                outgoing = session.queue.popleft()
                if outgoing.message.has_expired(now):
                    continue
                packet_id = session.next_packet_id()
                if not self._publish(outgoing, packet_id, dup=False, now=now):
                    continue
                session.inflight[packet_id] = outgoing
            else:
                return
            self._unacknowledged.add(packet_id)

    def send_now(self, outgoing: Outgoing) -> None:
        """Send a message of QoS 0."""
        now = self._connection.now
        if not outgoing.message.has_expired(now):
            self._publish(outgoing, 0, dup=False, now=now)

    def supersede(self) -> None:
        """Close: another connection has the client id now."""
        self._connection.close("takeover", say=reasons.SESSION_TAKEN_OVER)

    def on_puback(self, packet: Puback) -> None:
        """The client has the message."""
        self._note(packet, is_sent=False)
        outgoing = self._session.inflight.get(packet.packet_id)
        if outgoing is not None and outgoing.qos == 1:
            self._finish(packet.packet_id)

    def on_pubrec(self, packet: Pubrec) -> None:
        """The client has the message, or does not want it; in the first case release it."""
        self._note(packet, is_sent=False)
        outgoing = self._session.inflight.get(packet.packet_id)
        if outgoing is None or outgoing.qos != 2:
            if packet.code < reasons.UNSPECIFIED_ERROR:
                self._ack(Pubrel(packet.packet_id, reasons.PACKET_ID_NOT_FOUND))
        elif packet.code >= reasons.UNSPECIFIED_ERROR:
            self._finish(packet.packet_id)
        else:
            outgoing.is_released = True
            self._ack(Pubrel(packet.packet_id))

    def on_pubcomp(self, packet: Pubcomp) -> None:
        """The packet id is free again."""
        self._note(packet, is_sent=False)
        outgoing = self._session.inflight.get(packet.packet_id)
        if outgoing is not None and outgoing.is_released:
            self._finish(packet.packet_id)

    def _finish(self, packet_id: int) -> None:
        del self._session.inflight[packet_id]
        self._unacknowledged.discard(packet_id)
        if packet_id in self._again:
            self._again.remove(packet_id)
        self.pump()

    def _publish(self, outgoing: Outgoing, packet_id: int, *, dup: bool, now: float) -> bool:
        """Send it, and tell whether it was small enough."""
        message, connection = outgoing.message, self._connection
        properties = message.properties
        if message.expires_at is not None:
            properties = message.properties_at(now)
        if outgoing.identifiers:
            properties = evolve(properties, subscription_identifiers=outgoing.identifiers)
        if properties.will_delay_interval is not None:
            properties = evolve(properties, will_delay_interval=None)  # it is the will's, not the message's
        packet = Publish(message.topic, message.payload, outgoing.qos, packet_id, outgoing.is_retained, dup, properties)
        data = encode(packet, version=connection.version)
        if self._maximum_packet_size is not None and len(data) > self._maximum_packet_size:
            return False
        connection.write(data)
        ledger = connection.context.ledger
        if ledger.keep:
            ledger.record(
                Delivered(
                    at=now,
                    origin=connection.origin,
                    topic=message.topic,
                    payload=message.payload,
                    qos=outgoing.qos,
                    dup=dup,
                    is_retained=outgoing.is_retained,
                    packet_id=packet_id,
                )
            )
        else:
            ledger.count(Delivered)
        return True

    def _ack(self, packet: Pubrel) -> None:
        self._connection.send(packet)
        self._note(packet, is_sent=True)

    def _note(self, packet: Puback | Pubrec | Pubrel | Pubcomp, *, is_sent: bool) -> None:
        note(self._connection, packet, is_sent=is_sent)


def note(connection: Connection, packet: Puback | Pubrec | Pubrel | Pubcomp, *, is_sent: bool) -> None:
    """Enter an acknowledgement in the ledger."""
    ledger = connection.context.ledger
    if not ledger.keep:
        ledger.count(Acked)
        return
    ledger.record(
        Acked(
            at=connection.now,
            origin=connection.origin,
            packet=type(packet).__name__.upper(),
            packet_id=packet.packet_id,
            code=packet.code,
            is_sent=is_sent,
        )
    )
