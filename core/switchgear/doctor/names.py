"""What the answers about a name mean. Pure: the answers are handed in."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Final

from switchgear.doctor.finding import INSTALL, failed, passed, warned

if TYPE_CHECKING:
    from collections.abc import Sequence

    from switchgear.doctor.asking import SystemAnswer, Told
    from switchgear.doctor.finding import Finding

SLOW: Final = 1.0
"""Seconds; a look-up that takes longer has waited for a name server that did not answer (time-outs start at 1 s)."""

LONG_TTL: Final = 120
"""Seconds; AWS recommends 60 to 120 for records that a fail-over changes."""

_NO_SUCH_NAME: Final = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}


def judge_answer(host: str, answer: SystemAnswer | OSError) -> Finding:
    """The line for what the operating system says of *host*."""
    if isinstance(answer, OSError):
        code = answer.errno if isinstance(answer, socket.gaierror) else None
        if isinstance(answer, TimeoutError):
            why = "no answer in time"
            way_out = "check the name servers of this machine (/etc/resolv.conf), and the way to them"
        elif code in _NO_SUCH_NAME:
            why = "there is no such name, or it has no address"
            way_out = "check the spelling, and the record at your DNS provider"
        else:
            why = answer.strerror or str(answer)
            way_out = (
                "the name servers failed or did not answer: try again, then look at the zone and at /etc/resolv.conf"
            )
        return failed("dns.answer", f"{host}: {why}", way_out, host=host, addresses=[])
    facts = {
        "host": host,
        "addresses": list(answer.addresses),
        "canonical": answer.canonical,
        "seconds": answer.seconds,
    }
    alias = f" ({answer.canonical})" if answer.canonical != host.rstrip(".").lower() else ""
    found = f"{host}{alias}: {_list(answer.addresses)}, in {answer.seconds * 1000:.0f} ms"
    if answer.seconds > SLOW:
        way_out = "the first name server of this machine may be dead: check /etc/resolv.conf"
        return warned("dns.answer", found, way_out, **facts)
    return passed("dns.answer", found, **facts)


def judge_chain(host: str, told: Told | None, *, is_known: bool) -> Finding:
    """The line for the chain of *host*; *is_known* says whether the operating system had an answer."""
    check = "dns.chain"
    if told is None:
        return warned(check, "not checked: no name server is configured here", "name one with --dns-server")
    facts = {"server": told.server, "code": told.code, "chain": [[hop.target, hop.ttl] for hop in told.chain]}
    path = " -> ".join([host, *(f"{hop.target} (CNAME, TTL {hop.ttl})" for hop in told.chain)])
    if told.is_loop:
        way_out = "the CNAME records lead in a circle: point one of them to the broker"
        return failed(check, f"{path}: a loop, says {told.server}", way_out, **facts)
    if told.code == "silent":
        way_out = "check that this machine reaches it on port 53; name another with --dns-server"
        return (warned if is_known else failed)(check, f"no answer from {told.server}", way_out, **facts)
    is_missing = told.code == "NXDOMAIN"
    if is_missing or (told.code == "NOERROR" and not told.addresses and not told.chain):
        lost = told.end or host
        if is_known:
            found = f"{told.server} does not know {lost}; this machine has it from elsewhere, such as its hosts file"
            return warned(check, found, "other machines may not find it: add the record", **facts)
        why = "there is no such name (NXDOMAIN)" if is_missing else "it has no address"
        way_out = (
            f"check the target of the CNAME, {lost}" if told.chain else f"add a record for {lost}, or correct the name"
        )
        return failed(check, f"{path}: {why}, says {told.server}", way_out, **facts)
    if told.code != "NOERROR":
        meaning = {"SERVFAIL": "its zone cannot be served or validated", "REFUSED": "it does not serve this name to us"}
        way_out = f"{meaning.get(told.code, 'it failed')}: look at the zone's name servers (delegation, DNSSEC)"
        return (warned if is_known else failed)(check, f"{path}: {told.code}, says {told.server}", way_out, **facts)
    end = f" -> {_list(told.addresses)} (TTL {told.ttl})" if told.addresses else ""
    longest = max((hop.ttl for hop in told.chain), default=0)
    if longest > LONG_TTL:
        way_out = f"a switch is seen up to {longest} s late; set the CNAME's TTL to 60 s or less"
        return warned(check, path + end, way_out, **facts)
    return passed(check, path + end, **facts)


def judge_authority(whose: str, told: Sequence[Told], answer: SystemAnswer, target: SystemAnswer | None) -> Finding:
    """The line that compares the operating system's *answer* with what *told* say, who are *whose*.

    *target* is what the operating system says of the end of their chain; None where there is none, or no answer. Targets
    are compared before addresses: behind one name of AWS IoT stand many, and each answer shows others.
    """
    check = "dns.authority"
    facts: dict[str, object] = {
        "asked": whose,
        "servers": {each.server: [each.code, each.end, list(each.addresses)] for each in told},
    }
    heard = [each for each in told if each.code not in {"silent", "REFUSED"}]
    if not heard:
        silent = f"{whose} did not answer" if told else "the zone's own name servers could not be found"
        way_out = "port 53 to the outside is often closed; name servers that answer with --dns-server"
        return warned(check, f"not checked: {silent}", way_out, **facts)
    if len({each.says for each in heard}) > 1:
        shown = "; ".join(f"{each.server} says {each.end or _list(each.addresses) or each.code}" for each in heard)
        return warned(check, f"{whose} disagree: {shown}", "a change is under way: wait, and ask again", **facts)
    first = heard[0]
    if _agrees(answer, first, target):
        return passed(check, f"{whose} say the same ({len(heard)} asked)", **facts)
    ours = answer.canonical if first.chain else _list(answer.addresses)
    theirs = first.end or _list(first.addresses) or first.code
    found = f"this machine says {ours}, but {whose} say {theirs}: stale, or answered from elsewhere"
    way_out = "wait for the record's TTL, empty the cache of this machine's resolver, and look into its hosts file"
    return warned(check, found, way_out, **facts, is_stale=True)


def _agrees(answer: SystemAnswer, told: Told, target: SystemAnswer | None) -> bool:
    if answer.canonical in {hop.target for hop in told.chain} or set(answer.addresses) & set(told.addresses):
        return True
    return target is not None and (
        target.canonical == answer.canonical or bool(set(target.addresses) & set(answer.addresses))
    )


def cannot_ask(check: str) -> Finding:
    """The line when dnspython is missing."""
    return warned(check, "not checked: dnspython is not installed", INSTALL)


def _list(addresses: Sequence[str]) -> str:
    """At most four addresses; AWS IoT has eight and more."""
    more = f" and {len(addresses) - 4} more" if len(addresses) > 4 else ""
    return ", ".join(addresses[:4]) + more
