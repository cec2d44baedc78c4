"""From when to when a certificate holds. Pure: the present time is handed in.

The certificate begins an hour before it is made, because ACM refuses one that is not valid yet and clocks differ
(ACM user guide, "Prerequisites for importing certificates"). Both ends belong to the lifetime (RFC 5280 section
4.1.2.5), so N days end at ``not_before + N days - 1 s``, and N can be read back from a certificate.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Final

from attrs import frozen

from switchgear_certs.errors import InvalidLifetime, UnfitAuthority

if TYPE_CHECKING:
    from cryptography import x509

SKEW: Final = dt.timedelta(hours=1)
LEAF_DAYS: Final = 90
AUTHORITY_DAYS: Final = 1825
MOST_DAYS: Final = 36_500
"""More than anybody needs, and far from the year 9999, where dates end."""
APPLE_DAYS: Final = 825
"""Apple's systems refuse server certificates with longer lives, also from private CAs (support.apple.com/103769)."""

_SECOND: Final = dt.timedelta(seconds=1)


@frozen
class Lifetime:
    """The first and the last second of a certificate. *is_cut* says that the issuer's end made it shorter."""

    not_before: dt.datetime
    not_after: dt.datetime
    is_cut: bool = False


def moment(now: dt.datetime | None) -> dt.datetime:
    """*now* in UTC without microseconds; None is the clock's.

    Raises:
        InvalidLifetime: it has no time zone.
    """
    now = dt.datetime.now(dt.UTC) if now is None else now
    if now.tzinfo is None:
        raise InvalidLifetime("a time without time zone; use datetime.now(UTC)")
    return now.astimezone(dt.UTC).replace(microsecond=0)


def lifetime(days: int | None, *, default: int, now: dt.datetime, issuer: x509.Certificate | None = None) -> Lifetime:
    """*days* from an hour before *now*; None takes *default*, or what is left of *issuer* when that is less.

    Raises:
        InvalidLifetime: *days* is out of range or beyond the issuer's end.
        UnfitAuthority: the issuer has expired or is not valid yet.
    """
    wanted = default if days is None else days
    if not 1 <= wanted <= MOST_DAYS:
        raise InvalidLifetime(f"a lifetime of {wanted} days; it has 1 to {MOST_DAYS}")
    begin = now - SKEW
    if issuer is None:
        return Lifetime(begin, begin + dt.timedelta(days=wanted) - _SECOND)
    if now > issuer.not_valid_after_utc:
        raise UnfitAuthority(
            f"the authority expired at {issuer.not_valid_after_utc:%Y-%m-%d %H:%M} UTC; make a new one"
        )
    if now < issuer.not_valid_before_utc:
        raise UnfitAuthority(
            f"the authority is not valid before {issuer.not_valid_before_utc:%Y-%m-%d %H:%M} UTC; is the clock right?"
        )
    begin = max(begin, issuer.not_valid_before_utc)
    end = begin + dt.timedelta(days=wanted) - _SECOND
    if end <= issuer.not_valid_after_utc:
        return Lifetime(begin, end)
    if days is None:
        return Lifetime(begin, issuer.not_valid_after_utc, is_cut=True)
    left = (issuer.not_valid_after_utc - begin + _SECOND) // dt.timedelta(days=1)
    way_out = f"at most --days {left}" if left else "make a new authority"
    raise InvalidLifetime(
        f"{days} days would outlive the authority, which ends at {issuer.not_valid_after_utc:%Y-%m-%d %H:%M} UTC; {way_out}"
    )


def days_of(certificate: x509.Certificate) -> int | None:
    """How many whole days *certificate* was made for; None when its life is no whole number of days."""
    whole, rest = divmod(
        certificate.not_valid_after_utc - certificate.not_valid_before_utc + _SECOND, dt.timedelta(days=1)
    )
    return None if rest else whole


def days_left(certificate: x509.Certificate, now: dt.datetime) -> float:
    """Days until *certificate* ends, negative afterwards."""
    return (certificate.not_valid_after_utc - now) / dt.timedelta(days=1)


def needs_renewal(certificate: x509.Certificate, now: dt.datetime, *, within_days: float | None = None) -> bool:
    """Whether fewer than *within_days* are left; None: less than a third of its life."""
    whole = (certificate.not_valid_after_utc - certificate.not_valid_before_utc + _SECOND) / dt.timedelta(days=1)
    return days_left(certificate, now) < (whole / 3 if within_days is None else within_days)
