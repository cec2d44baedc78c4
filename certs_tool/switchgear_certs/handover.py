"""Files for others: bundles, Java's stores, ACM's three files, and the whole set-up of a demo. Reads and writes files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from switchgear_certs import acm, chain, stores
from switchgear_certs.ensure import add_authority, add_leaves, written
from switchgear_certs.errors import AlreadyThere, FileTrouble, UnfitKey, WrongPassphrase
from switchgear_certs.lifetimes import moment
from switchgear_certs.store import PUBLIC, SECRET, Change, changing, read_if_there
from switchgear_certs.wishes import AuthorityWish, LeafWish, Outcome

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Sequence

    from switchgear_certs.certificate import Certificate
    from switchgear_certs.files import Files

PASSWORD_FILE: Final = "keystore.password"  # noqa: S105 - the name of a file
TRUST_STORE: Final = "ca.p12"
DEMO_NAMES: Final = ("mqtt1.example.com", "mqtt2.example.com")
DEMO_CLIENT: Final = "demo-client"


def bundle(files: Files, what: str, *, with_key: bool = False, force: bool = False) -> Outcome:
    """One file with the leaf, its issuers and the root, and the key when it is wished for.

    Raises:
        AlreadyThere: another file is in the place; *force* replaces it.
        UnfitKey: *with_key*, but the key is not here.
    """
    stem, certificate = _find(files, what, with_key=with_key)
    outcome = Outcome(certificates={stem: certificate})
    with changing(files.folder) as change:
        add_bundle(change, outcome, stem, certificate, with_key=with_key, force=force)
    return written(outcome, change)


def p12(
    files: Files, what: str, *, password: str | None = None, with_trust_store: bool = False, force: bool = False
) -> Outcome:
    """A key store for Java; without *password* the folder's own, which is made when there is none yet.

    Raises:
        AlreadyThere: another file is in the place; *force* replaces it.
        UnfitKey: the key is not here, or is an authority's.
        FileTrouble: a trust store is wished for, and the root is not known.
    """
    stem, certificate = _find(files, what)
    if chain.is_authority(certificate.leaf):  # and NAME.p12 of the root would be the trust store, which everybody gets
        raise UnfitKey(
            f"{what} is an authority, whose key belongs into no key store; `p12 NAME --trust-store` with a server's or"
            f" client's NAME makes {TRUST_STORE} for those who are to trust it"
        )
    outcome = Outcome(certificates={stem: certificate})
    with changing(files.folder) as change:
        password = stores.check_password(password) if password is not None else add_password(change, outcome)
        add_key_store(change, outcome, stem, certificate, password, force=force)
        if with_trust_store:
            add_trust_store(change, outcome, certificate, password, force=force)
    return written(outcome, change)


def acm_files(files: Files, what: str, *, force: bool = False, now: dt.datetime | None = None) -> Outcome:
    """The three files for ACM, in the folder ``NAME.acm``.

    Raises:
        UnfitRequest: AWS IoT would refuse the certificate.
        AlreadyThere: other files are in the place; *force* replaces them.
    """
    stem, certificate = _find(files, what)
    outcome = Outcome(certificates={stem: certificate})
    with changing(files.folder) as change:
        add_acm(change, outcome, stem, certificate, now=moment(now), force=force)
    return written(outcome, change)


def demo(
    files: Files,
    names: Sequence[str] = DEMO_NAMES,
    *,
    authority: AuthorityWish,
    san: Sequence[str] = (),
    days: int | None = None,
    passphrase: str | Callable[[str], str] | None = None,
    force: bool = False,
    now: dt.datetime | None = None,
) -> Outcome:
    """Everything for a demo with a server for each of *names*: authority, pairs, a client, stores, ACM's files.

    All of it is written together or not at all; what is there already, and right, stays.
    """
    wishes = [LeafWish(names=(name, *san), days=days).checked() for name in names]
    wishes.append(LeafWish(client=DEMO_CLIENT, days=days).checked())
    outcome = Outcome()
    with changing(files.folder) as change:
        made = add_authority(files, authority, change, outcome, force=force, now=now)
        add_leaves(files, wishes, change, outcome, authority=made, passphrase=passphrase, force=force, now=now)
        password = add_password(change, outcome)
        for stem, certificate in outcome.certificates.items():
            if certificate.purpose != "server":
                continue
            is_new = force or f"{stem}.crt" in change.entries
            add_bundle(change, outcome, stem, certificate, force=is_new)
            add_key_store(change, outcome, stem, certificate, password, force=is_new)
            add_acm(change, outcome, stem, certificate, now=moment(now), force=is_new)
        first = next(iter(outcome.certificates.values()))
        add_trust_store(change, outcome, first, password, force=force or made is not None)
    return written(outcome, change)


def add_bundle(
    change: Change,
    outcome: Outcome,
    stem: str,
    certificate: Certificate,
    *,
    with_key: bool = False,
    force: bool = False,
) -> None:
    """Put ``NAME.bundle.pem`` into *change*."""
    data = chain.to_pem([certificate.leaf, *certificate.issuers])
    if with_key:
        data += certificate.key_pem
    _put(change, outcome, f"{stem}.bundle.pem", data, SECRET if with_key else PUBLIC, force=force)


def add_password(change: Change, outcome: Outcome) -> str:
    """The password of the folder's stores; a new one is put into *change* when there is none yet."""
    path = change.folder / PASSWORD_FILE
    found = read_if_there(path)
    outcome.files.append(path)
    if found is not None:
        try:
            return stores.check_password(found.decode("ascii").strip())
        except (UnicodeDecodeError, WrongPassphrase) as error:
            why = "" if isinstance(error, UnicodeDecodeError) else f": {error}"
            raise FileTrouble(f"{path} holds no password{why}; mend it, delete it, or give another one") from error
    password = stores.new_password()
    change.put(PASSWORD_FILE, password.encode() + b"\n", mode=SECRET)
    return password


def add_key_store(
    change: Change, outcome: Outcome, stem: str, certificate: Certificate, password: str, *, force: bool = False
) -> None:
    """Put ``NAME.p12`` into *change*, unless it holds the same already."""
    path = change.folder / f"{stem}.p12"
    old = None if force else read_if_there(path)
    if old is not None and stores.is_key_store_of(old, password, certificate):
        outcome.files.append(path)
        return
    _put(change, outcome, path.name, stores.key_store(certificate, password), SECRET, force=force)


def add_trust_store(
    change: Change, outcome: Outcome, certificate: Certificate, password: str, *, force: bool = False
) -> None:
    """Put ``ca.p12`` into *change*, unless it holds the same already."""
    root = certificate.root
    if root is None:
        raise FileTrouble(
            f"the root of {chain.title(certificate.leaf)} is not known; put it into {change.folder / 'ca.crt'}"
        )
    path = change.folder / TRUST_STORE
    old = None if force else read_if_there(path)
    if old is not None and stores.is_trust_store_of(old, password, root):
        outcome.files.append(path)
        return
    _put(change, outcome, path.name, stores.trust_store(root, password), SECRET, force=force)


def add_acm(
    change: Change, outcome: Outcome, stem: str, certificate: Certificate, *, now: dt.datetime, force: bool = False
) -> None:
    """Put the three files for ACM into *change*."""
    files = acm.acm_set(certificate, now=now)
    for name, data, mode in (
        (acm.LEAF, files.leaf, PUBLIC),
        (acm.CHAIN, files.chain, PUBLIC),
        (acm.KEY, files.key, SECRET),
    ):
        _put(change, outcome, f"{stem}.acm/{name}", data, mode, force=force)


def _put(change: Change, outcome: Outcome, name: str, data: bytes, mode: int, *, force: bool) -> None:
    path = change.folder / name
    old = None if force else read_if_there(path)
    if old is not None and old != data:
        raise AlreadyThere(f"{path} is there with other contents; --force replaces it")
    change.put(name, data, mode=mode)
    outcome.files.append(path)


def _find(files: Files, what: str, *, with_key: bool = True) -> tuple[str, Certificate]:
    path = files.locate(what)
    return path.stem, files.certificate(path, with_key=with_key)
