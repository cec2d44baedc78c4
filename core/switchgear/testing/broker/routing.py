"""Who gets a message, and in which form. Works on the store and on live links; no I/O of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from switchgear.testing.broker.store import Message, Outgoing, Session, Store
from switchgear.testing.broker.topics import Entry, matches

if TYPE_CHECKING:
    from switchgear.testing.broker.packets import Subscription


def route(store: Store, message: Message, *, now: float) -> None:
    """Keep *message* if it is retained, and hand it to every session with a matching subscription.

    A session with several matching subscriptions gets it once, with the highest granted QoS and all subscription
    identifiers (MQTT 5.0, 3.3.4). When this returns, the message is in the store for everyone who is to have it.
    """
    if message.is_retained:
        store.retain(message)
    found = store.index.find(message.topic)
    for client_id, entries in found.plain.items():
        session = store.session(client_id, now=now)
        if session is not None:
            _offer(session, message, entries)
    for key, entries in found.shared.items():
        _share(store, key, entries, message, now=now)


def send_retained(
    store: Store, session: Session, subscription: Subscription, *, identifier: int | None, now: float
) -> None:
    """Send the retained messages that a new subscription matches, with the retain flag set."""
    identifiers = () if identifier is None else (identifier,)
    for topic, message in list(store.retained.items()):
        if message.has_expired(now):
            del store.retained[topic]
        elif matches(subscription.filter, topic):
            qos = min(subscription.qos, message.qos)
            _deliver(session, Outgoing(message, qos, is_retained=True, identifiers=identifiers))


def _offer(session: Session, message: Message, entries: list[Entry]) -> None:
    if len(entries) > 1 or entries[0].subscription.no_local:
        is_own = session.client_id == message.publisher
        entries = [entry for entry in entries if not (is_own and entry.subscription.no_local)]
        if not entries:
            return
    qos = max(entry.subscription.qos for entry in entries)
    keeps_flag = message.is_retained and any(entry.subscription.retain_as_published for entry in entries)
    identifiers = tuple(entry.identifier for entry in entries if entry.identifier is not None)
    _deliver(session, Outgoing(message, min(qos, message.qos), keeps_flag, identifiers))


def _share(store: Store, key: tuple[str, str], entries: list[Entry], message: Message, *, now: float) -> None:
    """Give the message to one member: a connected one if there is any, each in its turn."""
    members = [(entry, session) for entry in entries if (session := store.session(entry.client_id, now=now))]
    online = [member for member in members if member[1].link is not None] or members
    if online:
        entry, session = online[store.turn(key) % len(online)]
        _offer(session, message, [entry])


def _deliver(session: Session, outgoing: Outgoing) -> None:
    if outgoing.qos:
        session.queue.append(outgoing)
        if session.link is not None:
            session.link.pump()
    elif session.link is not None:
        session.link.send_now(outgoing)
