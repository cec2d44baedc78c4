"""What a broker's certificates, and our own, mean. Reads our certificate file; the rest is pure.

OpenSSL has the last word on trust; ``cryptography`` looks at what OpenSSL had no occasion to mention, for it stops at
the first thing that is wrong. The order in which it looks (``X509_verify_cert``): the chain, the purpose, the name, the
dates. So a certificate that is refused for its name has a good chain, and one that has expired a good name as well.
"""

from __future__ import annotations

import datetime as dt
import importlib.util
import ssl
from typing import TYPE_CHECKING, Any, Final

from attrs import frozen

from switchgear.doctor.asking import is_address
from switchgear.doctor.finding import INSTALL, failed, passed, warned
from switchgear.errors import UnreadableFile
from switchgear.tls import CERTIFICATES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from switchgear.doctor.finding import Finding
    from switchgear.doctor.handshake import Handshake
    from switchgear.endpoint import Endpoint
    from switchgear.tls import TLS

SOON: Final = 14
"""Days; a certificate that ends sooner wants to be renewed now."""

_DATES: Final = {9, 10}  # X509_V_ERR_CERT_NOT_YET_VALID, _CERT_HAS_EXPIRED
_NAME: Final = {62, 63, 64}  # X509_V_ERR_HOSTNAME_MISMATCH and its like
_PURPOSE: Final = {26}  # X509_V_ERR_INVALID_PURPOSE


@frozen
class Leaf:
    """What `cryptography` reads from a certificate."""

    title: str
    issuer: str
    names: tuple[str, ...]
    purposes: tuple[str, ...] | None
    """None: it names none, which means any."""
    begins: dt.datetime
    ends: dt.datetime


def is_able() -> bool:
    """Whether ``cryptography`` is here."""
    return importlib.util.find_spec("cryptography") is not None


def read(der: bytes) -> Leaf:
    """What a certificate in DER says."""
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID as Purpose

    known = {
        Purpose.SERVER_AUTH: "serverAuth",
        Purpose.CLIENT_AUTH: "clientAuth",
        Purpose.ANY_EXTENDED_KEY_USAGE: "any",
    }
    certificate = x509.load_der_x509_certificate(der)
    names: tuple[str, ...] = ()
    purposes: tuple[str, ...] | None = None
    for extension in certificate.extensions:
        value = extension.value
        if isinstance(value, x509.SubjectAlternativeName):
            names = tuple(str(each.value) for each in value if isinstance(each, x509.DNSName | x509.IPAddress))
        elif isinstance(value, x509.ExtendedKeyUsage):
            purposes = tuple(known.get(oid, oid.dotted_string) for oid in value)
    ends, begins = certificate.not_valid_after_utc, certificate.not_valid_before_utc
    return Leaf(_title(certificate.subject), _title(certificate.issuer), names, purposes, begins, ends)


def _title(name: Any) -> str:
    text: str = name.rfc4514_string()
    return text or "without a name"


def judge_handshake(endpoint: Endpoint, shake: Handshake) -> Finding:
    """The line for the handshake itself."""
    check = "tls.handshake"
    if shake.shown is None:
        assert shake.failure is not None
        detail = shake.failure.detail
        way_out = shake.failure.advice
        if "PROTOCOL_VERSION" in detail.upper() or "UNSUPPORTED_PROTOCOL" in detail.upper():
            way_out = "the broker speaks none of TLS 1.2 and 1.3: update it"
        elif not endpoint.is_websocket and endpoint.port in {1883, 80}:
            way_out += f"; port {endpoint.port} is usually without TLS: mqtt://"
        return failed(check, f"{shake.failure.cause.value}: {detail}", way_out, cause=shake.failure.cause.value)
    shown = shake.shown
    sni = None if is_address(endpoint.host) else endpoint.host
    facts = {"version": shown.version, "cipher": shown.cipher, "alpn": shown.alpn, "sni": sni}
    parts = [shown.version, shown.cipher]
    if shown.alpn:
        parts.append(f"ALPN {shown.alpn}")
    if sni is None:
        parts.append("no SNI, for that needs a name")
    elif shake.without_name is None:
        parts.append(f"SNI {endpoint.host}, without which it refuses")
    elif shake.without_name != shown.certificates[0]:
        parts.append(f"SNI {endpoint.host}, without which it shows another certificate")
    else:
        parts.append(f"SNI {endpoint.host}")
    return passed(check, ", ".join(parts), **facts)


def judge(endpoint: Endpoint, shake: Handshake, tls: TLS | None, now: dt.datetime) -> list[Finding]:
    """The lines for trust, name, dates and purpose of what *shake* showed."""
    assert shake.shown is not None
    code = shake.refusal.verify_code if shake.refusal is not None else None
    leaf = read(shake.shown.certificates[0]) if is_able() else _described(shake.shown.described)
    issuers = [read(each) for each in shake.shown.certificates[1:]] if is_able() else []
    if tls is not None and not tls.verify:
        way_out = "take verify=False out of the profile, and name the broker's CA as ca_file"
        return [warned("tls.trust", "verify=False: whoever answers is trusted", way_out)]
    return [
        _trust(shake, tls, leaf, len(shake.shown.certificates)),
        _name(endpoint.host, code, leaf),
        _dates(code, leaf, issuers, now),
        _purpose(code, leaf, endpoint.host),
    ]


def _trust(shake: Handshake, tls: TLS | None, leaf: Leaf | None, shown: int) -> Finding:
    check = "tls.trust"
    refusal = shake.refusal
    source = (tls.ca_file or "ca_pem") if tls is not None and tls.has_ca else "this system's CAs"
    issuer = leaf.issuer if leaf is not None else None
    signed = f"signed by {issuer}" if issuer else "the chain"
    if refusal is None or refusal.verify_code in _DATES | _NAME | _PURPOSE:
        return passed(check, f"{signed}: {shown} certificate(s) lead to one of {source}", issuer=issuer, shown=shown)
    if tls is not None and tls.has_ca:
        found = f"{signed}, and {source} does not hold that CA: {refusal.verify_message}"
        way_out = f"get the CA that signed the broker's certificate into {'this file' if tls.ca_file else source}"
    else:
        found = f"{signed}, which is none of this system's CAs: {refusal.verify_message}"
        way_out = "name the file of the CA that signed it with --ca-file, or ca_file in the profile"
    if shown == 1 and refusal.verify_code in {20, 21}:  # no issuer at hand; the chain may be cut short by the broker
        way_out += "; if a CA between them is missing, the broker must show it"
    return failed(check, found, way_out, issuer=issuer, shown=shown)


def _name(host: str, code: int | None, leaf: Leaf | None) -> Finding:
    check = "tls.name"
    names = list(leaf.names) if leaf is not None else []
    listed = ", ".join(names) or (f"none, only {leaf.title}" if leaf is not None else "unknown")
    if code in _NAME or (code not in {None, *_DATES} and leaf is not None and not _covers(names, host)):
        way_out = f"connect to a name that it holds, or issue one for {host}"
        return failed(check, f"the certificate is not for {host}; it is for: {listed}", way_out, names=names)
    if leaf is None and code not in {None, *_DATES}:
        return _unread(check)
    return passed(check, f"the certificate is for {host}", names=names)


def _dates(code: int | None, leaf: Leaf | None, issuers: Sequence[Leaf], now: dt.datetime) -> Finding:
    check = "tls.dates"
    if leaf is None:
        if code in _DATES:
            return failed(check, "the certificate has expired, or is not valid yet", "renew it; check the clock here")
        return _unread(check)
    whole = (leaf, *issuers)
    ends = min(each.ends for each in whole)
    begins = max(each.begins for each in whole)
    days = (ends - now).total_seconds() / 86400
    facts = {"begins": begins.isoformat(), "ends": ends.isoformat(), "days_left": round(days, 1)}
    if now < begins:
        found = f"not valid before {begins:%Y-%m-%d %H:%M} UTC, and the clock here says {now:%Y-%m-%d %H:%M} UTC"
        return failed(
            check, found, "check the clock of this machine, and of the one that made the certificate", **facts
        )
    if now > ends:
        found = f"expired on {ends:%Y-%m-%d %H:%M} UTC, {-days:.0f} day(s) ago"
        return failed(
            check, found, f"renew it; the clock here says {now:%Y-%m-%d %H:%M} UTC, if that is wrong set it", **facts
        )
    found = f"valid until {ends:%Y-%m-%d}, {days:.0f} day(s) left"
    if days < SOON:
        return warned(check, found, "renew it now", **facts)
    return passed(check, found, **facts)


def _purpose(code: int | None, leaf: Leaf | None, host: str) -> Finding:
    check = "tls.purpose"
    way_out = f"issue it anew with the extended key usage serverAuth: switchgear certs server {host}"
    if leaf is None:
        if code in _PURPOSE:
            return failed(check, "the certificate is not for servers", way_out)
        return passed(check, "OpenSSL takes it for a server's") if code in {None, *_DATES, *_NAME} else _unread(check)
    listed = ", ".join(leaf.purposes or ())
    facts = {"purposes": list(leaf.purposes) if leaf.purposes is not None else None}
    if leaf.purposes is None:
        return warned(check, "no extended key usage; OpenSSL takes it, AWS IoT does not", way_out, **facts)
    if not {"serverAuth", "any"} & set(leaf.purposes):
        return failed(
            check, f"not for servers: its extended key usage is {listed}, without serverAuth", way_out, **facts
        )
    return passed(check, f"extended key usage {listed}", **facts)


def _unread(check: str) -> Finding:
    return warned(check, "not checked: cryptography is not installed", INSTALL)


def _described(described: dict[str, Any]) -> Leaf | None:
    """The same from what `ssl` tells of a verified certificate; it does not tell the purposes."""
    if not described:
        return None

    def title(field: str) -> str:
        return ",".join(f"{key}={value}" for part in described.get(field, ()) for key, value in part)

    def moment(field: str) -> dt.datetime:
        return dt.datetime.fromtimestamp(ssl.cert_time_to_seconds(described[field]), dt.UTC)

    names = tuple(value for _, value in described.get("subjectAltName", ()))
    purposes = ("serverAuth",)  # or none at all: OpenSSL took it
    return Leaf(title("subject"), title("issuer"), names, purposes, moment("notBefore"), moment("notAfter"))


def _covers(names: Sequence[str], host: str) -> bool:
    """Whether one of *names* is *host*, or a wildcard for its first label (RFC 6125, 6.4.3)."""
    wanted = host.rstrip(".").lower()
    _, _, parent = wanted.partition(".")
    return any(name.lower() == wanted or (parent and name.lower() == f"*.{parent}") for name in names)


def judge_own(tls: TLS | None, now: dt.datetime) -> Finding | None:
    """The line for the certificate that we show; None when we show none."""
    check = "tls.client"
    if tls is None or not tls.has_certificate:
        return None
    if not is_able():
        return _unread(check)
    try:
        first = CERTIFICATES.search(tls.read_certificate() or b"")
        leaf = read(ssl.PEM_cert_to_DER_cert(first.group().decode("ascii") if first is not None else ""))
    except (UnreadableFile, ValueError) as error:
        return failed(check, f"{tls.cert_file or 'cert_pem'} cannot be read: {type(error).__name__}", "check it")
    days = (leaf.ends - now).total_seconds() / 86400
    found = f"{leaf.title}, signed by {leaf.issuer}, valid until {leaf.ends:%Y-%m-%d}, {days:.0f} day(s) left"
    facts = {"ends": leaf.ends.isoformat(), "days_left": round(days, 1)}
    if days < 0 or now < leaf.begins:
        return failed(check, f"{found}: not valid now", "renew it; check the clock of this machine", **facts)
    if leaf.purposes is not None and not {"clientAuth", "any"} & set(leaf.purposes):
        return failed(check, f"{found}: not for clients", "issue it anew: switchgear certs client NAME", **facts)
    if days < SOON:
        return warned(check, found, "renew it now", **facts)
    return passed(check, found, **facts)
