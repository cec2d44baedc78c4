"""What a transport tells about itself: events with facts, and the words for people. Pure: no I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from attrs import field, frozen

if TYPE_CHECKING:
    from collections.abc import Mapping

# event name: how explain() says it. Facts in braces; the reference lists every event with its facts.
WORDS: Final[dict[str, str]] = {
    "state_changed": "{was} -> {state}",
    "endpoint_selected": "chose {endpoint}: {why}",
    "attempt_started": "attempt {attempt} (sweep {sweep}) at {endpoint}",
    "dial_ahead": "{endpoint} is slow; dialling {ahead} as well",
    "attempt_failed": "attempt {attempt} at {endpoint} failed: {failure}",
    "connected": "connected to {endpoint} after {outage:.3f} s; session present: {session_present}",
    "connection_lost": "lost {endpoint} after {connected:.3f} s: {failure}",
    "reconnect_scheduled": "next sweep in {delay:.3f} s: {why}",
    "recheck_scheduled": "asking the plugins again in {delay:.3f} s: {why}",
    "driver_restarted": "driver restarted: {why}",
    "process_restarting": "this process is about to be replaced: {why}",
    "process_restart_refused": "this process is not replaced: {why}",
    "process_restart_failed": "this process could not be replaced and goes on: {why}",
    "probed": "probed {endpoint}: {result}",
    "move_scheduled": "moving in {delay:.3f} s: {why}",
    "watched": "plugin {plugin} sees: {why}",
    "spare_ready": "a warm connection to {endpoint} is ready",
    "flapping": "{flaps} connections in a row were lost before they were stable: {hint}",
    "quarantined": "{endpoint} left out for {seconds:.0f} s: {failure}",
    "all_quarantined": "every endpoint is quarantined, the next is tried in {delay:.0f} s: {failure}",
    "stable": "{endpoint} is stable; back-off is reset",
    "endpoints_changed": "the list of endpoints changed: {endpoints}",
    "gave_up": "gave up: {why}; last: {failure}",
    "stopped": "stopped",
    "subscription_refused": "the broker refused the filter {filter} (reason {reason})",
    "message_refused": "a message for {topic} was refused: {why}",
    "message_dropped": "{count} message(s) dropped: {why}",
    "message_expired": "{count} message(s) expired",
    "outbox_recovered": "{path} was broken ({why}); moved to {moved}, {count} message(s) were read from it",
    "outbox_clock_back": "the wall clock is {seconds:.0f} s before what {path} noted; messages there expire that much later",
    "outbox_quarantined": "{count} message(s) of {path} moved aside: {why}",
    "outbox_unwritable": "{path} cannot be written: {why}",
    "outbox_writable": "{path} can be written again",
    "deduplication_failed": "{count} message id(s) of {filter} could not be written down: {error}",
    "handler_failed": "the handler of {filter} raised {error}; try {attempt}",
    "plugin_failed": "plugin {plugin}, hook {hook}: {why}",
}


@frozen
class Event:
    """One decision or observation.

    Attributes:
        name: A key of `WORDS`.
        at: Seconds on the transport's clock (the event loop's).
        facts: What is known, by name; the reference lists them for each event. No secrets, no payloads.
    """

    name: str
    at: float
    facts: Mapping[str, object] = field(factory=dict)

    def __str__(self) -> str:
        return WORDS[self.name].format_map(self.facts)
