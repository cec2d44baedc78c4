"""What Amazon MQ for ActiveMQ takes: names, passwords and numbers. Pure: no I/O."""

from __future__ import annotations

import re
from typing import Final

CONSOLE_GROUP: Final = "activemq-webconsole"
"""The group of users with console access, and of the console itself.

A map without it locks the console out. Source: developer guide, "Child element attributes", authorizationEntry.
"""

ADVISORIES: Final = "ActiveMQ.Advisory.>"
"""The broker's own topics, which every group may create and no group but administrators may read or write.

Who may not create them is refused at CONNECT after a start, until somebody who may has come. The right to read them, which
JMS clients need and ActiveMQ's pages give to everybody, is a hole: with it ``+/+`` is granted to anybody, hears whatever is
created later, and makes the first publish to a new topic fail. Source: seen with ActiveMQ 5.17.2, 2026-11-22.
"""

# Source of the limits: developer guide, "Quotas in Amazon MQ", and the API's User and CreateBroker models; read 2026-11.
MOST_USERS: Final = 250
MOST_GROUPS: Final = 20
"""Groups of one user."""
LEAST_PASSWORD: Final = 12
MOST_PASSWORD: Final = 250
LEAST_DIFFERENT: Final = 4

_NAME: Final = re.compile(r"[A-Za-z0-9._~-]{2,100}", re.ASCII)
_BROKER: Final = re.compile(r"[A-Za-z0-9_-]{1,50}", re.ASCII)


def wrong_name(name: str) -> str | None:
    """Why Amazon MQ takes no user or group *name*; None when it does."""
    if _NAME.fullmatch(name):
        return None
    return "Amazon MQ takes names of 2 to 100 letters, digits and - . _ ~"


def wrong_broker_name(name: str) -> str | None:
    """Why Amazon MQ takes no broker *name*; None when it does."""
    if _BROKER.fullmatch(name):
        return None
    return "Amazon MQ takes broker names of 1 to 50 letters, digits, - and _"


def wrong_password(password: str) -> str | None:
    """Why Amazon MQ takes no such password, without showing it; None when it does."""
    if not LEAST_PASSWORD <= len(password) <= MOST_PASSWORD:
        return f"it has {len(password)} characters; Amazon MQ takes {LEAST_PASSWORD} to {MOST_PASSWORD}"
    if len(set(password)) < LEAST_DIFFERENT:
        return f"it has {len(set(password))} different characters; Amazon MQ wants at least {LEAST_DIFFERENT}"
    if set(password) & set(",:="):
        return "it holds a comma, a colon or an equals sign, which Amazon MQ refuses"
    return None
