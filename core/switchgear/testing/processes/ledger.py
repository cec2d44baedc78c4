"""What brokers wrote down about the messages that reached them, read from their logs.

A line is written before the acknowledgement is sent, and each line goes to the operating system at once, so a message
that was acknowledged is in the ledger even when the broker was then killed. The reverse does not hold: a message can
stand in the ledger whose acknowledgement was never sent. A topic or client id with a line break in it is not found.
"""

import datetime as dt
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from attrs import evolve, field, frozen

from switchgear.testing.processes.probe import PROBE_PREFIX


@frozen(kw_only=True)
class LoggedConnect:
    """A client that was let in. *time* is seconds since 1970; *connection* counts this client id's, from 1.

    *session_present* is what its CONNACK said; None where the log does not tell, as ActiveMQ's (MQTT 3.1.1, 3.2.2.2).
    """

    client_id: str
    time: float
    session_present: bool | None = None
    connection: int = 0
    broker: int = 0
    key: str = field(default="", repr=False, eq=False)


@frozen(kw_only=True)
class LoggedPublish:
    """One PUBLISH packet that reached a broker.

    *packet_id* is 0 at QoS 0. *time* is seconds since 1970: whole ones from mosquitto, thousandths from ActiveMQ.
    *connection* counts the connections of this client id from 1, across restarts and fail-over, so "in order within
    each connection" can be checked. *broker* is the index in a pair.
    """

    client_id: str
    topic: str
    qos: int
    dup: bool
    retain: bool
    packet_id: int
    time: float
    connection: int = 0
    broker: int = 0
    key: str = field(default="", repr=False, eq=False)


@frozen(kw_only=True)
class LoggedDelivery:
    """One PUBLISH packet that a broker handed to a subscriber's connection; the fields are those of `LoggedPublish`."""

    client_id: str
    topic: str
    qos: int
    dup: bool
    time: float
    packet_id: int = 0
    connection: int = 0
    broker: int = 0
    key: str = field(default="", repr=False, eq=False)


@frozen(kw_only=True)
class LoggedRelease:
    """One PUBREL that a broker handed to a subscriber's connection (MQTT 3.1.1, 4.3.3); from mosquitto's log only."""

    client_id: str
    packet_id: int
    time: float
    connection: int = 0
    broker: int = 0
    key: str = field(default="", repr=False, eq=False)


Entry = LoggedConnect | LoggedPublish | LoggedDelivery | LoggedRelease

_MOSQUITTO_CONNECT = re.compile(r"(\d+): New client connected from \S+ as (.*) \((?:p\d+, )?c\d, k\d+(?:, u'.*')?\)\.$")
_MOSQUITTO_PUBLISH = re.compile(
    r"(\d+): Received PUBLISH from (.*) \(d(\d), q(\d), r(\d), m(\d+), '(.*)', \.\.\. \(\d+ bytes\)\)$"
)
_MOSQUITTO_CONNACK = re.compile(r"\d+: Sending CONNACK to (.*) \((\d), 0\)$")
_MOSQUITTO_WILL = re.compile(r"\d+: (?:No will message|Will message|\t)")
_MOSQUITTO_SENDING = re.compile(
    r"(\d+): Sending PUBLISH to (.*) \(d(\d), q(\d), r\d, m(\d+), '(.*)', \.\.\. \(\d+ bytes\)\)$"
)
_MOSQUITTO_RELEASING = re.compile(r"(\d+): Sending PUBREL to (.*) \(m(\d+)\)$")
_ACTIVEMQ_LINE = re.compile(r"(\d{4}-\S+Z) \[(.*?)\] (\w+) (.*)$")
_ACTIVEMQ_CONNECT = re.compile(
    r"Adding Connection: ConnectionInfo \{.*?connectionId = (\S+), clientId = (.*), clientIp = "
)
_ACTIVEMQ_RECEIVED = re.compile(
    r"Received: PUBLISH\{dup=(\w+), qos=(\w+), retain=(\w+), messageId=(-?\d+), topicName=(.*?), payload=\w+: "
)
_ACTIVEMQ_CONVERTED = re.compile(
    r"MQTT-->ActiveMQ: MQTT_MSGID:-?\d+ client:(.*) connection:(\S+) ActiveMQ_MSGID:(\S+)$"
)
_ACTIVEMQ_TAKEN = re.compile(r"MQTT Snd PUBLISH message:\d+ client:(.*) connection:(\S+)$")
_ACTIVEMQ_SENDING = re.compile(
    r"Sending : PUBLISH\{dup=(\w+), qos=(\w+), retain=\w+, messageId=(-?\d+), topicName=(.*?), payload=\w+: "
)
_ACTIVEMQ_SENT = re.compile(r"Sending message: \w+ \{.*?messageId = ([^,]+),")
_QOS = {"AT_MOST_ONCE": 0, "AT_LEAST_ONCE": 1, "EXACTLY_ONCE": 2}


def number(entries: Iterable[Entry]) -> list[Entry]:
    """The *entries* with their connections counted, without those of probes."""
    numbered: list[Entry] = []
    counts: dict[str, int] = {}
    by_key: dict[tuple[int, str], int] = {}
    for entry in entries:
        if entry.client_id.startswith(PROBE_PREFIX):
            continue
        if isinstance(entry, LoggedConnect):
            counts[entry.client_id] = counts.get(entry.client_id, 0) + 1
            by_key[entry.broker, entry.key] = counts[entry.client_id]
        numbered.append(evolve(entry, connection=by_key.get((entry.broker, entry.key), 0)))
    return numbered


def read_mosquitto(log: Path) -> Iterator[Entry]:
    """Connects, received PUBLISH packets, deliveries and their releases, of a mosquitto log, in its order."""
    connect: LoggedConnect | None = None  # its CONNACK's line has not come yet
    for line in _whole_lines(log):
        if connect is not None:
            if match := _MOSQUITTO_CONNACK.match(line):
                connect = evolve(connect, session_present=match[2] == "1")
            elif _MOSQUITTO_WILL.match(line):
                continue  # it stands between the two
            yield connect
            connect = None
        if match := _MOSQUITTO_PUBLISH.match(line):
            time, client_id, dup, qos, retain, packet_id, topic = match.groups()
            yield LoggedPublish(
                client_id=client_id,
                topic=topic,
                qos=int(qos),
                dup=dup == "1",
                retain=retain == "1",
                packet_id=int(packet_id),
                time=float(time),
                key=client_id,
            )
        elif match := _MOSQUITTO_CONNECT.match(line):
            connect = LoggedConnect(client_id=match[2], time=float(match[1]), key=match[2])
        elif match := _MOSQUITTO_SENDING.match(line):
            time, client_id, dup, qos, packet_id, topic = match.groups()
            yield LoggedDelivery(
                client_id=client_id,
                topic=topic,
                qos=int(qos),
                dup=dup == "1",
                time=float(time),
                packet_id=int(packet_id),
                key=client_id,
            )
        elif match := _MOSQUITTO_RELEASING.match(line):
            yield LoggedRelease(client_id=match[2], packet_id=int(match[3]), time=float(match[1]), key=match[2])
    if connect is not None:
        yield connect


def read_activemq(log: Path, *, broker: int) -> Iterator[Entry]:
    """Connects, accepted PUBLISH packets and deliveries of an ActiveMQ log, in its order.

    Four loggers together tell the whole story of one packet. MQTTIO shows it as it came in; the protocol converter
    names the client and the id it gives the message, on the same thread; the logging plugin, which stands behind the
    authorization, names that id when the message is handed to the store. What the authorization map forbids, wills, and
    a QoS 2 packet that came again are therefore not in the ledger.
    """
    incoming: dict[str, re.Match[str]] = {}
    outgoing: dict[str, re.Match[str]] = {}
    converted: dict[str, LoggedPublish] = {}
    for line in _whole_lines(log):
        match = _ACTIVEMQ_LINE.match(line)
        if match is None:
            continue
        moment, thread, logger, text = match.groups()
        if logger == "MQTTIO":
            if packet := _ACTIVEMQ_RECEIVED.match(text):
                incoming[thread] = packet
            elif (packet := _ACTIVEMQ_SENDING.match(text)) and (taken := outgoing.pop(thread, None)):
                yield LoggedDelivery(
                    client_id=taken[1],
                    topic=packet[4],
                    qos=_QOS[packet[2]],
                    dup=packet[1] == "true",
                    time=_seconds(moment),
                    packet_id=max(0, int(packet[3])),
                    broker=broker,
                    key=taken[2],
                )
        elif logger == "MQTTProtocolConverter":
            conversion = _ACTIVEMQ_CONVERTED.match(text)
            if taken := _ACTIVEMQ_TAKEN.match(text):
                outgoing[thread] = taken
            elif conversion and (packet := incoming.pop(thread, None)):
                dup, qos, retain, packet_id, topic = packet.groups()
                converted[conversion[3]] = LoggedPublish(
                    client_id=conversion[1],
                    topic=topic,
                    qos=_QOS[qos],
                    dup=dup == "true",
                    retain=retain == "true",
                    packet_id=int(packet_id) & 0xFFFF,  # logged as a signed 16-bit number
                    time=_seconds(moment),
                    broker=broker,
                    key=conversion[2],
                )
        elif logger == "LoggingBrokerPlugin":
            if sent := _ACTIVEMQ_SENT.match(text):
                if sent[1] in converted:
                    yield converted.pop(sent[1])
            elif added := _ACTIVEMQ_CONNECT.match(text):
                yield LoggedConnect(client_id=added[2], time=_seconds(moment), broker=broker, key=added[1])


def topic_matches(topic_filter: str, topic: str) -> bool:
    """Whether *topic* is among those that *topic_filter* selects (MQTT 3.1.1 section 4.7), without the rule about `$`."""
    levels = topic.split("/")
    wanted = topic_filter.split("/")
    for index, level in enumerate(wanted):
        if level == "#":
            return True
        if index >= len(levels) or level not in ("+", levels[index]):
            return False
    return len(levels) == len(wanted)


def _seconds(moment: str) -> float:
    return dt.datetime.fromisoformat(moment).timestamp()


def _whole_lines(log: Path) -> Iterator[str]:
    """The lines of *log* that are complete; none where the broker has not written one yet."""
    try:
        with log.open(encoding="utf-8", errors="replace", newline="\n") as lines:
            for line in lines:
                if line.endswith("\n"):
                    yield line[:-1]
    except FileNotFoundError:
        return
