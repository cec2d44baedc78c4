"""The built-in behaviour, which is itself a plugin: so every strategy hook has a user here, and others only prefer.

It is asked last for every transport. What cannot be replaced (back-off, the order of the candidates) is not here but
in the machine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from switchgear.hookspecs import Context, Proceed, hookimpl

if TYPE_CHECKING:
    from switchgear.endpoint import Endpoint
    from switchgear.hookspecs import Verdict


@hookimpl
def select_endpoint(context: Context) -> Endpoint | None:
    """The first candidate: the machine has already sorted them, best first."""
    return context.candidates[0] if context.candidates else None


@hookimpl
def before_reconnect() -> Verdict:
    """Always `Proceed`: the back-off policy alone decides when."""
    return Proceed()
