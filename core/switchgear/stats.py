"""Counters of a transport: a snapshot for people and for monitoring. Pure."""

from __future__ import annotations

from attrs import frozen


@frozen(kw_only=True)
class Stats:
    """Counters since the transport was made, and what is in it now.

    Attributes:
        accepted: Messages taken by ``publish``.
        acknowledged: Of these, those that a broker has (QoS 0: that a connection took).
        refused: Ended as `Refused` or too large.
        expired: Ended as `Expired`.
        dropped: Ended as `Dropped`.
        waiting: Messages in the outbox now.
        waiting_bytes: Bytes of their payloads and topics.
        received: Messages that arrived.
        inbox_dropped: QoS 0 messages that arrived and were dropped because nobody took them.
        handler_errors: Times that a handler raised.
        duplicates: Messages that arrived, had been handled already, and were acknowledged without a handler.
        connections: Usable connections so far.
        attempts: Tries at endpoints so far.
        outage: Seconds without a usable connection; 0 while connected.
        plugin_problems: What went wrong in plugins, by name.
    """

    accepted: int
    acknowledged: int
    refused: int
    expired: int
    dropped: int
    waiting: int
    waiting_bytes: int
    received: int
    inbox_dropped: int
    handler_errors: int
    duplicates: int
    connections: int
    attempts: int
    outage: float
    plugin_problems: dict[str, int]
