"""What can honestly be said of this machine's clock. Does I/O: one HTTP request to a WebSocket endpoint, where there is one.

MQTT carries no time, and NTP is none of ours. What is at hand: the moment when this program was installed, which is past;
the validity of certificates, which brackets the present as long as the broker is well; and the ``Date`` header of a server
that speaks HTTP, which is the only one that measures.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import email.utils
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Final

import switchgear
from switchgear.doctor.finding import failed, passed, warned

if TYPE_CHECKING:
    from collections.abc import Sequence

    from switchgear.doctor.finding import Finding
    from switchgear.endpoint import Endpoint

NOTICEABLE: Final = 30.0
"""Seconds of skew; tokens that have just been issued begin to be refused."""

HARMFUL: Final = 300.0
"""Seconds of skew; AWS refuses Signature Version 4 from here on."""

_SLACK: Final = dt.timedelta(days=1)  # file times may be in another zone
_HEADERS: Final = 16384  # bytes of an answer that are looked at


def now() -> dt.datetime:
    """The present, by this machine's clock."""
    return dt.datetime.now(dt.UTC)


def installed() -> dt.datetime:
    """When this program's files were written."""
    return dt.datetime.fromtimestamp(Path(switchgear.__file__).stat().st_mtime, dt.UTC)


async def skew(endpoint: Endpoint, address: str, timeout: float) -> float | None:
    """Seconds that the clock here is ahead of an HTTP server's; None: it does not tell its time. Good to about a second.

    *timeout* is in seconds.
    """
    context = None
    if endpoint.is_tls:  # only a time is asked for, and whoever answers cannot do harm with it
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    name = endpoint.host if context else None
    try:
        async with asyncio.timeout(timeout):
            reader, writer = await asyncio.open_connection(address, endpoint.port, ssl=context, server_hostname=name)
            try:
                writer.write(
                    f"HEAD / HTTP/1.1\r\nHost: {endpoint.authority}\r\nConnection: close\r\n\r\n".encode("ascii")
                )
                asked = now()
                head = await reader.read(_HEADERS)
                answered = now()
            finally:
                writer.transport.abort()
    except (OSError, ValueError):
        return None
    for line in head.split(b"\r\n"):
        field, _, value = line.partition(b":")
        if field.lower() == b"date":
            try:
                theirs = email.utils.parsedate_to_datetime(value.decode("ascii").strip())
            except ValueError:
                return None
            ours = asked + (answered - asked) / 2
            return (ours - theirs.astimezone(dt.UTC)).total_seconds() - 0.5  # its fraction was cut off
    return None


def judge(
    present: dt.datetime,
    installed_at: dt.datetime,
    begins: Sequence[dt.datetime],
    skews: Sequence[float],
) -> Finding:
    """The line for the clock, from the certificates' beginnings and the skews that servers told, in seconds."""
    check = "clock"
    shown = f"{present:%Y-%m-%d %H:%M:%S} UTC"
    way_out = "set the clock of this machine, and keep it by NTP (timedatectl, chrony)"
    facts: dict[str, object] = {"now": present.isoformat(), "skews": [round(each, 1) for each in skews]}
    if present < installed_at - _SLACK:
        return failed(
            check, f"{shown} is before this program was installed ({installed_at:%Y-%m-%d})", way_out, **facts
        )
    if skews:
        worst = max(skews, key=abs)
        found = f"{shown}, {abs(worst):.0f} s {'ahead of' if worst > 0 else 'behind'} a broker's HTTP server"
        if abs(worst) > HARMFUL:
            return failed(check, found, way_out, **facts)
        return (warned(check, found, way_out, **facts)) if abs(worst) > NOTICEABLE else passed(check, found, **facts)
    late = [each for each in begins if present < each]
    if late:
        found = f"{shown} is before a certificate begins ({max(late):%Y-%m-%d %H:%M} UTC): this clock may be behind"
        return warned(check, found, way_out, **facts)
    known = f" and after {len(begins)} certificate(s) began" if begins else ""
    return passed(
        check, f"{shown}: after this program was installed{known}; no server told its time to compare", **facts
    )
