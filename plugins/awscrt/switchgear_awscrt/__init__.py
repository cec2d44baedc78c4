"""AWS's SDK as a driver of Switchgear: ``driver="awscrt"``. Importing this costs nothing; the SDK loads when it is used."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

from switchgear.hookspecs import hookimpl

if find_spec("awscrt") is None or find_spec("awsiot") is None:  # said now: `switchgear plugins` shows it
    raise ImportError("AWS's SDK is missing: pip install awsiotsdk")

if TYPE_CHECKING:
    from collections.abc import Mapping

    from switchgear.drivers.base import Driver, DriverSettings

DRIVERS: Final = ("awscrt",)
"""Names of drivers that this plugin provides, for messages."""


@hookimpl
def provide_driver(name: str, settings: DriverSettings, options: Mapping[str, object]) -> Driver | None:
    """The driver called ``awscrt``; *options* are those of the plugin ``awscrt``, see `switchgear_awscrt.options`.

    Raises:
        InvalidOption: an option is wrong, or the SDK is not installed.

    Since: 0.1.
    """
    if name != "awscrt":
        return None
    from switchgear_awscrt.driver import CrtDriver
    from switchgear_awscrt.options import read_options

    return CrtDriver(settings, read_options(options))


@hookimpl
def check_options(options: Mapping[str, object]) -> None:
    """Refuse options that cannot be right, whatever driver is chosen.

    Raises:
        InvalidOption: an option is unknown, or has an impossible value.

    Since: 0.1.
    """
    from switchgear_awscrt.options import read_options

    read_options(options)


__all__ = ["DRIVERS", "check_options", "provide_driver"]
