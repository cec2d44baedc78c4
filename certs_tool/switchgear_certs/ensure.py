"""What the making commands do: look at what is there, make what is missing, change nothing else. Reads and writes files.

The same wish again finds everything as it should be and leaves it. Another wish for the same place is refused, unless
forced. All files of one call are written together or not at all.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from switchgear_certs import chain
from switchgear_certs.authority import Authority
from switchgear_certs.compare import compare_authority, compare_leaf, ending, find_pair, remarks
from switchgear_certs.errors import AlreadyThere, FileTrouble
from switchgear_certs.files import CA, Files, put_authority, put_certificate
from switchgear_certs.keys import load_key, same_key
from switchgear_certs.lifetimes import moment
from switchgear_certs.names import AUTHORITY_STEMS, authority_name
from switchgear_certs.store import SECRET, Change, changing, read, read_if_there
from switchgear_certs.wishes import AuthorityWish, LeafWish, Outcome

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from switchgear_certs.certificate import Certificate


def ensure_authority(
    files: Files, wish: AuthorityWish, *, force: bool = False, now: dt.datetime | None = None
) -> Outcome:
    """Make the authority that *wish* describes, unless it is there.

    Raises:
        AlreadyThere: another authority is there; or half of one. *force* replaces it.
    """
    outcome = Outcome()
    with changing(files.folder) as change:
        add_authority(files, wish, change, outcome, force=force, now=now)
    return written(outcome, change)


def add_authority(
    files: Files,
    wish: AuthorityWish,
    change: Change,
    outcome: Outcome,
    *,
    force: bool = False,
    now: dt.datetime | None = None,
) -> Authority | None:
    """The same within a *change* that does more; the new authority, or None when it was there already."""
    if wish.name is not None:
        authority_name(wish.name)
    paths = [files.folder / f"{stem}{end}" for stem in AUTHORITY_STEMS for end in (".crt", ".key")]
    there = [path for path in paths if path.exists()]
    if there and not force:
        compare_authority(files, wish, there)
        outcome.files += there
        outcome.notes += ending(files.authority_chain()[0], "the authority", moment(now))
        return None
    authority = Authority.create(
        name=wish.name,
        key_type=wish.key_type,
        days=wish.days,
        intermediate=wish.intermediate,
        permitted=wish.permitted,
        now=now,
    )
    if there and not wish.intermediate and files.has_issuing:
        raise AlreadyThere(
            f"{files.folder} has an issuing CA, which a root alone would leave behind; use --intermediate or another folder"
        )
    passphrase = wish.passphrase(str(files.folder / f"{CA}.key")) if wish.passphrase else None
    outcome.files += put_authority(change, authority, passphrase)
    if there:
        outcome.notes.append("certificates of the authority that was here before are not trusted with the new one")
    return authority


def ensure_leaves(
    files: Files,
    wishes: Sequence[LeafWish],
    *,
    passphrase: str | Callable[[str], str] | None = None,
    force: bool = False,
    now: dt.datetime | None = None,
) -> Outcome:
    """Make the pairs that *wishes* describe, unless they are there: all of them or none.

    Raises:
        AlreadyThere: another certificate is in a place; *force* replaces it.
        FileTrouble: half of a pair is in a place; *force* replaces it.
    """
    checked = [wish.checked() for wish in wishes]
    outcome = Outcome()
    with changing(files.folder) as change:
        add_leaves(files, checked, change, outcome, passphrase=passphrase, force=force, now=now)
    return written(outcome, change)


def add_leaves(
    files: Files,
    wishes: Sequence[LeafWish],
    change: Change,
    outcome: Outcome,
    *,
    authority: Authority | None = None,
    passphrase: str | Callable[[str], str] | None = None,
    force: bool = False,
    now: dt.datetime | None = None,
) -> None:
    """The same within a *change* that does more; *authority* is one that this change brings."""
    issuer = files.authority_chain()[0] if authority is None else authority.certificate
    for wish in wishes:
        if wish.stem in outcome.certificates:
            continue
        found = None if force else find_pair(files, wish, issuer)
        if found is not None:
            outcome.certificates[wish.stem] = found
            outcome.files += files.pair(wish.stem)
            outcome.notes += ending(found.leaf, wish.stem, moment(now))
            continue
        if authority is None:
            authority = files.authority(passphrase)
        made = _make(authority, wish, now)
        outcome.certificates[wish.stem] = made
        outcome.files += put_certificate(change, wish.stem, made)
        outcome.notes += remarks(made, wish, issuer)
    if files.ca_file not in outcome.files:
        outcome.files.insert(0, files.ca_file)


def ensure_signed(
    files: Files,
    request_file: Path,
    *,
    purpose: str = "server",
    days: int | None = None,
    aws_limits: bool = True,
    passphrase: str | Callable[[str], str] | None = None,
    force: bool = False,
    now: dt.datetime | None = None,
) -> Outcome:
    """Certify the CSR in *request_file*, unless that was done.

    Raises:
        AlreadyThere: another certificate is in the place, or a key that is not the request's.
    """
    request = read(request_file)
    outcome = Outcome()
    with changing(files.folder) as change:
        authority = files.authority(passphrase)
        made = authority.sign(
            request, purpose=purpose, days=days, aws_limits=aws_limits, where=str(request_file), now=now
        )
        stem = (made.common_name or "") if purpose == "client" else Files.stem(made.names[0])
        path, key_file = files.pair(stem)
        if key_file.exists():
            key = load_key(read(key_file), where=str(key_file))
            if not same_key(key.public_key(), made.leaf.public_key()):
                raise AlreadyThere(f"{key_file} is there, and is not the key of {request_file}; use another --out")
        old = read_if_there(path)
        outcome.files += [files.ca_file, path]
        if old is not None and not force:
            found = files.certificate(path, with_key=False)
            wish = LeafWish(
                names=made.names,
                client=made.common_name if purpose == "client" else None,
                key_type=None,
                days=days,
            )
            compare_leaf(found, wish, authority.certificate, path)
            if not same_key(found.leaf.public_key(), made.leaf.public_key()):
                raise AlreadyThere(f"{path} is there for another key; --force replaces it")
            outcome.certificates[stem] = found
            outcome.notes += ending(found.leaf, stem, moment(now))
        else:
            outcome.certificates[stem] = made
            put_certificate(change, stem, made)
    return written(outcome, change)


def renew(
    files: Files,
    what: str,
    *,
    keep_key: bool = False,
    days: int | None = None,
    passphrase: str | Callable[[str], str] | None = None,
    now: dt.datetime | None = None,
) -> Outcome:
    """Replace the certificate *what* (a name or a file) by a new one with the same names; see `Authority.renew`."""
    outcome = Outcome()
    renew_all(files, [files.locate(what)], outcome, keep_key=keep_key, days=days, passphrase=passphrase, now=now)
    return outcome


def renew_all(
    files: Files,
    paths: Sequence[Path],
    outcome: Outcome,
    *,
    keep_key: bool = False,
    days: int | None = None,
    passphrase: str | Callable[[str], str] | None = None,
    now: dt.datetime | None = None,
) -> None:
    """The same for the certificate files *paths*, all of them or none, added to *outcome*."""
    for path in paths:
        _check_renewable(files, path)
    folders = {path.parent.resolve(): path.parent for path in paths}
    with contextlib.ExitStack() as stack:  # locked in one order, whoever else renews
        changes = {key: stack.enter_context(changing(folders[key])) for key in sorted(folders)}
        authority = files.authority(passphrase)
        for path in paths:
            new = authority.renew(files.certificate(path), keep_key=keep_key, days=days, now=now)
            _put_renewed(changes[path.parent.resolve()], outcome, path, new, with_key=not keep_key)
    for change in changes.values():
        outcome.written |= {change.folder / name for name in change.entries}


def _check_renewable(files: Files, path: Path) -> None:
    if path.stem in AUTHORITY_STEMS and chain.is_authority(files.certificate(path, with_key=False).leaf):
        raise FileTrouble(
            f"{path} is an authority; a new one is made with `init` in another folder, and both are trusted meanwhile"
        )
    if b"PRIVATE KEY-----" in read(path):
        raise FileTrouble(f"{path} holds the key too; renew takes a certificate and a key in files of their own")


def _put_renewed(change: Change, outcome: Outcome, path: Path, new: Certificate, *, with_key: bool) -> None:
    outcome.certificates[path.stem] = new
    change.put(path.name, new.certificate_pem)
    outcome.files.append(path)
    if new.key is not None:
        key_file = Files.key_file(path)
        outcome.files.append(key_file)
        if with_key:
            change.put(key_file.name, new.key_pem, mode=SECRET)
    made_before = [
        f"{path.stem}{end}" for end in (".p12", ".bundle.pem", ".acm") if (path.parent / f"{path.stem}{end}").exists()
    ]
    if made_before:
        outcome.notes.append(f"made of the old one, make them anew with --force: {', '.join(made_before)}")


def _make(authority: Authority, wish: LeafWish, now: dt.datetime | None) -> Certificate:
    if wish.client is not None:
        return authority.client(wish.client, days=wish.days, key_type=wish.key_type, now=now)
    return authority.server(*wish.names, days=wish.days, key_type=wish.key_type, aws_limits=wish.aws_limits, now=now)


def written(outcome: Outcome, change: Change) -> Outcome:
    """*outcome*, with what *change* has written."""
    outcome.written = {change.folder / name for name in change.entries}
    return outcome
