"""Whether a certificate would be trusted: its dates, its name, its purpose, its chain. Pure."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.x509 import verification

from switchgear_certs import chain
from switchgear_certs.errors import InvalidName
from switchgear_certs.findings import Finding, Verdict
from switchgear_certs.names import Name, covers, server_name

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Sequence

PURPOSE_SOURCE: Final = "RFC 5280, section 4.2.1.12"
DATES_SOURCE: Final = "RFC 5280, section 4.1.2.5"
NAME_SOURCE: Final = "RFC 9525, section 6"
CHAIN_SOURCE: Final = "RFC 5280, section 6"


def verify(
    certificates: Sequence[x509.Certificate],
    trusted: Sequence[x509.Certificate],
    *,
    name: str | None = None,
    purpose: str = "server",
    now: dt.datetime,
) -> list[Finding]:
    """Dates, name, purpose and chain of ``certificates[0]``; the others may help to reach one of *trusted*.

    Without *name* a server's own first name is taken, so that the other lines still say something; a client has none.

    Raises:
        InvalidName: *name* is no host name.
    """
    leaf = certificates[0]
    findings = [_dates(leaf, now), _purpose(leaf, purpose)]
    wanted = None if name is None else server_name(name)
    if purpose == "server":
        findings.append(_name(leaf, wanted))
    findings.append(_chain(leaf, certificates[1:], trusted, now=now, wanted=wanted, purpose=purpose))
    return findings


def _dates(leaf: x509.Certificate, now: dt.datetime) -> Finding:
    begin, end = leaf.not_valid_before_utc, leaf.not_valid_after_utc
    if now < begin:
        return Finding("dates", Verdict.FAIL, f"not valid before {begin:%Y-%m-%d %H:%M} UTC", DATES_SOURCE)
    if now > end:
        return Finding("dates", Verdict.FAIL, f"expired at {end:%Y-%m-%d %H:%M} UTC", DATES_SOURCE)
    return Finding("dates", Verdict.PASS, f"valid until {end:%Y-%m-%d %H:%M} UTC", DATES_SOURCE)


def _purpose(leaf: x509.Certificate, purpose: str) -> Finding:
    has = chain.purposes_of(leaf)
    if not has or purpose in has:
        return Finding("purpose", Verdict.PASS, f"it may be used for a {purpose}", PURPOSE_SOURCE)
    return Finding("purpose", Verdict.FAIL, f"it is for a {' and a '.join(has)}, not for a {purpose}", PURPOSE_SOURCE)


def _name(leaf: x509.Certificate, wanted: Name | None) -> Finding:
    names = chain.names_of(leaf)
    shown = ", ".join(names) or "no name"
    if wanted is None:
        return Finding("name", Verdict.WARN, f"it is for {shown}; say --name to compare", NAME_SOURCE)
    if any(covers(name, wanted.text) for name in names):
        return Finding("name", Verdict.PASS, f"it is for {wanted}", NAME_SOURCE)
    return Finding("name", Verdict.FAIL, f"it is for {shown}, not for {wanted}", NAME_SOURCE)


def _chain(
    leaf: x509.Certificate,
    others: Sequence[x509.Certificate],
    trusted: Sequence[x509.Certificate],
    *,
    now: dt.datetime,
    wanted: Name | None,
    purpose: str,
) -> Finding:
    known = (*others, *trusted)
    issuers = chain.issuers_of(leaf, known)
    ends = [each for each in (leaf, *issuers) if each in trusted]
    if not ends:
        last = (leaf, *issuers)[-1]
        end = (
            "is not trusted"
            if chain.is_self_signed(last)
            else f"was issued by {last.issuer.rfc4514_string()}, which is not here"
        )
        return Finding("chain", Verdict.FAIL, f"{chain.title(last)} {end}", CHAIN_SOURCE)
    path = " < ".join(chain.title(each) for each in (leaf, *issuers))
    store = verification.Store(list(trusted))
    builder = verification.PolicyBuilder().store(store).time(now)
    try:
        if purpose == "client":
            ca = verification.ExtensionPolicy.webpki_defaults_ca()
            # A client certificate needs no alternative name, which the policy for the web demands.
            ee = verification.ExtensionPolicy.permit_all()
            builder.extension_policies(ca_policy=ca, ee_policy=ee).build_client_verifier().verify(leaf, list(others))
        else:
            builder.build_server_verifier(_any_subject(leaf, wanted)).verify(leaf, list(others))
    except (verification.VerificationError, InvalidName, ValueError) as error:
        return Finding("chain", Verdict.FAIL, f"{path}: {' '.join(str(error).split())}", CHAIN_SOURCE)
    return Finding("chain", Verdict.PASS, path, CHAIN_SOURCE)


def _any_subject(leaf: x509.Certificate, wanted: Name | None) -> verification.Subject:
    """A name that the leaf has, so that the chain's verdict is about the chain: the wanted one, else its first."""
    names = chain.names_of(leaf)
    fits = wanted is not None and any(covers(name, wanted.text) for name in names)
    text = wanted.text if fits and wanted is not None else next(iter(names), "no.name")
    text = text.replace("*", "wildcard", 1)
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)
