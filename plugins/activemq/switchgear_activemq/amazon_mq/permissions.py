"""Who may do what on a broker: users, groups, and the topics of each, as people write them. Pure: no I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from attrs import field, frozen
from switchgear.message import topic_matches

if TYPE_CHECKING:
    from switchgear.secrets import Secret

STOCK_NAME: Final = "switchgear"
"""The broker's name where the file gives none."""

EXAMPLE: Final = """\
# Who may do what on the broker. Topics are written as MQTT clients write them.
name = "press"

[users.admin]
groups = ["admins"]
console = true

[users.publisher]
groups = ["publishers"]

[users.subscriber]
groups = ["subscribers"]

[groups.admins]
admin = true

[groups.publishers]
publish = ["orders/#", "state/publisher"]
create = ["orders/#", "state/publisher"]

[groups.subscribers]
subscribe = ["orders/#", "state/+"]

[purge]
inactive_s = 600
keep = ["state/#"]
"""
"""A file to begin with; ``broker-xml --example`` writes it, and ``template`` uses it where no file is given."""


@frozen(kw_only=True)
class User:
    """One user of the broker.

    Attributes:
        name: 2 to 100 letters, digits and `- . _ ~`.
        groups: What the user may do is what its groups may do; at most 20.
        console: May open the web console. Amazon MQ then lets the user do everything.
        password: For `--local` only: text, `{env = "NAME"}` or `{file = "path"}`. On Amazon MQ it comes from Secrets Manager.
    """

    name: str
    groups: tuple[str, ...] = ()
    console: bool = False
    password: Secret | None = field(default=None, repr=False)


@frozen(kw_only=True)
class Group:
    """What the users of one group may do.

    Attributes:
        name: 2 to 100 letters, digits and `- . _ ~`.
        admin: Everything, on topics and queues.
        publish: Topic filters that it may publish to; its wills count.
        subscribe: Topic filters that it may subscribe to, and all filters within them.
        create: Topic filters of topics that come into being when it is the first to publish or subscribe to them.
    """

    name: str
    admin: bool = False
    publish: tuple[str, ...] = ()
    subscribe: tuple[str, ...] = ()
    create: tuple[str, ...] = ()


@frozen(kw_only=True)
class Purge:
    """When the broker forgets what nobody uses.

    Attributes:
        inactive_s: Seconds after which a topic without subscribers and waiting messages is removed, with its retained message; 0: never.
        every_s: Seconds between two looks.
        keep: Topic filters of topics that are never removed.
        offline_session_s: Seconds after which the session of a client that stays away is removed, with its messages; 0: never.
    """

    inactive_s: int = 600
    every_s: int = 60
    keep: tuple[str, ...] = ()
    offline_session_s: int = 0


@frozen(kw_only=True)
class Permissions:
    """One file of permissions.

    Attributes:
        name: The broker's name: 1 to 50 letters, digits, `-` and `_`.
        topics: Topics that the broker makes when it starts, and keeps.
        users: A table `[users.NAME]` for each user, at least one.
        groups: A table `[groups.NAME]` for each group, at least one.
        purge: When the broker forgets what nobody uses.
    """

    name: str = STOCK_NAME
    topics: tuple[str, ...] = ()
    users: tuple[User, ...]
    groups: tuple[Group, ...]
    purge: Purge = Purge()

    def notes(self) -> tuple[str, ...]:
        """What is allowed, and may surprise."""
        return (
            *(
                f"user {user.name}: console = true lets it do everything on Amazon MQ, not only what its groups may do"
                for user in self.users
                if user.console and not any(group.admin for group in self.groups_of(user))
            ),
            *(
                f"group {group.name}: no user is in it, and on Amazon MQ a group exists only through its users"
                for group in self.groups
                if not any(group.name in user.groups for user in self.users)
            ),
            *(
                f"group {group.name}: {who} may publish to {topic} and not create it; what is sent to a topic that does"
                " not exist (yet, or any more after a purge) is acknowledged and dropped"
                for group in self.groups
                for topic in group.publish
                for who in self._who_cannot_create(group, topic)[:1]
            ),
            *(
                f"group {group.name}: {who} may subscribe to {topic} and not create it; until somebody has, the"
                " subscription is refused and asked for again"
                for group in self.groups
                for topic in group.subscribe
                for who in self._who_cannot_create(group, topic)[:1]
                if not {"+", "#"}.intersection(topic.split("/"))
            ),
            *(
                f"group {group.name}: with the right to read {topic} its users are granted +/+ too, hear all topics that"
                " are created later, and can make the first publish to a topic fail; JMS clients need it, MQTT clients do not"
                for group in self.groups
                for topic in group.subscribe
                if topic.split("/")[0] == "ActiveMQ"
            ),
        )

    def groups_of(self, user: User) -> tuple[Group, ...]:
        """The groups of *user*."""
        return tuple(group for group in self.groups if group.name in user.groups)

    def _who_cannot_create(self, group: Group, topic: str) -> list[str]:
        """The members of *group* that may not create *topic*, where it is not made when the broker starts."""
        if topic in self.topics:
            return []
        return [
            user.name
            for user in self.users
            if group.name in user.groups
            and not any(
                mine.admin or any(_covers(filter_, topic) for filter_ in mine.create) for mine in self.groups_of(user)
            )
        ]


def _covers(wider: str, narrower: str) -> bool:
    """Whether every topic that *narrower* selects is among those of *wider*."""
    if narrower.endswith("#") and not wider.endswith("#"):
        return False
    return topic_matches(wider, narrower)
