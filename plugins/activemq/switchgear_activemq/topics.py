"""Topic names that do not come out of ActiveMQ as they went in. Pure: no I/O."""

from __future__ import annotations

from typing import Final

from switchgear.errors import InvalidTopic

SWITCH_OFF: Final = 'to send it all the same, set the option topics = "any" of the plugin activemq'

_SWAPPED: Final = {".": "/", "*": "+", ">": "#"}
_NAMES: Final = str.maketrans({mqtt: activemq for activemq, mqtt in _SWAPPED.items()})
_TRIMMED: Final = "".join(map(chr, range(0x21)))  # what Java's String.trim takes for white space
_BECOMES: Final = "ActiveMQ writes {found!r} as {other!r} in the names of its topics, so JMS clients and access rules see another name"
_COMMA: Final = "ActiveMQ takes a comma for the end of one topic and the start of another: it would reach each part"
_QUESTION: Final = (
    "ActiveMQ takes what follows a question mark for options and drops it: it would reach the topic before it"
)
_EDGE: Final = "ActiveMQ drops white space at the start and the end of a topic's name: it would reach another topic"
_SHARED: Final = (
    "ActiveMQ has no shared subscriptions; it would listen to a topic of that very name, where nothing arrives"
)


def check_topic(topic: str) -> None:
    """Raise `InvalidTopic` when ActiveMQ would make something else of *topic*, a topic name or a topic filter.

    ActiveMQ Classic translates between MQTT's names and its own: ``/`` becomes ``.``, ``+`` becomes ``*``, ``#`` becomes
    ``>``, and each the other way round. Refused are:

    - ``.``, ``*`` and ``>``: on the broker they are ``/``, ``+`` and ``#``. Since the translation back exists, MQTT
      clients do not notice; JMS, STOMP and AMQP clients, access rules and virtual topics see another name than the
      one they were configured with, and releases before it gave ``a.b`` back as ``a/b``.
    - ``,``: separates the parts of a composite destination; one message is sent to several topics.
    - ``?``: starts the options of a destination; the message for ``a?b`` goes to ``a``.
    - white space (up to U+0020) at either end: it is trimmed.
    - ``$share/...``: MQTT 3.1.1 has no shared subscriptions, and ActiveMQ takes the filter literally.

    Not refused, for they come out unchanged: a leading or trailing ``/`` and empty levels (``a//b``), spaces inside,
    ``$SYS/...`` and other names with a leading ``$`` (the broker keeps their messages from MQTT subscribers unless
    ``publishDollarTopics`` is set), ``VirtualTopic/...`` and ``Consumer/...`` (the way to JMS queues; only a broker
    with ``subscriptionStrategy=mqtt-virtual-topic-subscriptions`` takes the prefix off), ``ActiveMQ/Advisory/...``.

    Source: ``MQTTProtocolSupport.convertMQTTToActiveMQ`` and ``convertActiveMQToMQTT``,
    ``ActiveMQDestination.setPhysicalName``, run in 5.17.2; ``MQTTVirtualTopicSubscriptionStrategy`` and
    ``MQTTProtocolConverter`` of the same.

    Since: 0.1.
    """
    why = what_changes(topic)
    if why is not None:
        raise InvalidTopic(topic, f"{why}; {SWITCH_OFF}")


def what_changes(topic: str) -> str | None:
    """Why ActiveMQ would make something else of *topic*, in the words of `check_topic`; None when it would not."""
    if topic.startswith("$share/"):
        return _SHARED
    for character in topic:
        if character == ",":
            return _COMMA
        if character == "?":
            return _QUESTION
        if character in _SWAPPED:
            return _BECOMES.format(found=character, other=_SWAPPED[character])
    return _EDGE if topic != topic.strip(_TRIMMED) else None


def to_activemq(topic: str) -> str:
    """The name that ActiveMQ's rules and other clients know *topic* by, a topic name or filter of MQTT.

    Source: as for `check_topic`, which says what does not come out as it went in.
    """
    return topic.translate(_NAMES)
