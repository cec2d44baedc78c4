"""Whether what is in a folder is what was wished for, and what people should know about it. Reads files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography import x509

from switchgear_certs import chain
from switchgear_certs.constraints import constraints
from switchgear_certs.errors import AlreadyThere, FileTrouble, UnfitKey
from switchgear_certs.files import CA, ISSUING
from switchgear_certs.keys import is_encrypted, key_type, kind
from switchgear_certs.lifetimes import APPLE_DAYS, days_left, days_of, needs_renewal
from switchgear_certs.store import read

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Sequence
    from pathlib import Path

    from switchgear_certs.certificate import Certificate
    from switchgear_certs.files import Files
    from switchgear_certs.wishes import AuthorityWish, LeafWish


def find_pair(files: Files, wish: LeafWish, issuer: x509.Certificate) -> Certificate | None:
    """The pair that is there, when it is the one wished for; None when there is none."""
    path, key_file = files.pair(wish.stem)
    if not path.exists() and not key_file.exists():
        return None
    for missing, other in ((path, key_file), (key_file, path)):
        if not missing.exists():
            raise FileTrouble(
                f"{other} is there without {missing.name}: half of a pair; complete it, or --force makes both anew"
            )
    try:
        found = files.certificate(path)
    except (FileTrouble, UnfitKey) as error:
        raise type(error)(f"{error}; --force makes the pair anew") from error
    compare_leaf(found, wish, issuer, path)
    return found


def compare_leaf(found: Certificate, wish: LeafWish, issuer: x509.Certificate, path: Path) -> None:
    """Raise `AlreadyThere` when *found*, from *path*, is another than *wish* asks *issuer* for."""
    leaf = found.leaf
    if not chain.is_issued_by(leaf, issuer):
        differs = f"of another authority ({leaf.issuer.rfc4514_string()})"
    elif found.purpose != wish.purpose:
        differs = f"for another purpose ({', '.join(chain.purposes_of(leaf)) or 'none said'})"
    elif wish.client is None and found.names != wish.names:
        differs = f"for other names ({', '.join(found.names)})"
    elif wish.client is not None and found.common_name != wish.client:
        differs = f"for another client ({found.common_name})"
    elif wish.key_type not in {None, key_type(leaf.public_key())}:
        differs = f"with another key ({kind(leaf.public_key())})"
    elif wish.days not in {None, days_of(leaf)}:
        differs = f"with another lifetime ({_life(leaf)})"
    else:
        return
    raise AlreadyThere(f"{path} is there, {differs}; --force replaces it")


def compare_authority(files: Files, wish: AuthorityWish, there: Sequence[Path]) -> None:
    """Raise `AlreadyThere` when the authority in *files* is another than *wish* asks for.

    Raises:
        FileTrouble: half of it is missing.
        WrongPassphrase: its key does not open.
    """
    if files.ca_file not in there:
        raise FileTrouble(
            f"{there[0]} is there without {files.ca_file.name}; bring the certificate back, use another folder,"
            " or --force makes a new authority"
        )
    certificate, *issuers = files.authority_chain()
    root = issuers[-1] if issuers else certificate
    stem = ISSUING if issuers else CA
    key_file = files.folder / f"{stem}.key"
    if key_file not in there:
        raise FileTrouble(
            f"{files.folder / stem}.crt is there without {key_file.name}; bring the key back, or --force makes both anew"
        )
    pem = read(key_file)
    limits = chain.extension(certificate, x509.NameConstraints)
    differs = None
    if wish.name not in {None, chain.common_name(root)}:
        differs = f"with another name ({chain.common_name(root)})"
    elif key_type(root.public_key()) is not wish.key_type:
        differs = f"with another key ({kind(root.public_key())})"
    elif wish.days not in {None, days_of(root)}:
        differs = f"with another lifetime ({_life(root)})"
    elif bool(issuers) != wish.intermediate:
        differs = "with an issuing CA" if issuers else "without an issuing CA"
    elif limits != constraints(wish.permitted):
        differs = "with other name constraints"
    elif is_encrypted(pem) != (wish.passphrase is not None):
        differs = "with a passphrase" if is_encrypted(pem) else "without a passphrase"
    if differs:
        raise AlreadyThere(f"an authority is in {files.folder}, {differs}; use another folder, or --force replaces it")
    files.authority(wish.passphrase)  # does the key open, does it belong to the certificate?


def remarks(made: Certificate, wish: LeafWish, issuer: x509.Certificate) -> list[str]:
    """What people should know about *made*, which was issued for *wish*."""
    notes = []
    if wish.days is None and made.leaf.not_valid_after_utc == issuer.not_valid_after_utc:
        notes.append(f"{wish.stem} ends with its authority, at {issuer.not_valid_after_utc:%Y-%m-%d}")
    if wish.purpose == "server" and (days_of(made.leaf) or 0) > APPLE_DAYS:
        notes.append(f"{wish.stem} lives longer than {APPLE_DAYS} days: Apple's systems refuse it")
    if type(made.leaf.public_key()) is not type(issuer.public_key()):
        notes.append(f"{wish.stem} has a key of another family than its authority; ACM's older rules wanted one family")
    return notes


def ending(certificate: x509.Certificate, what: str, now: dt.datetime) -> list[str]:
    """That it is time for another *certificate*, where it is."""
    left = days_left(certificate, now)
    is_authority = chain.is_authority(certificate)
    if left < 0:
        return [f"{what} has expired; {'make a new one in another folder' if is_authority else 'renew it'}"]
    way_out = "make a new one in another folder, and trust both meanwhile" if is_authority else "renew it"
    return [f"{what} ends in {left:.0f} days; it is time to {way_out}"] if needs_renewal(certificate, now) else []


def _life(certificate: x509.Certificate) -> str:
    days = days_of(certificate)
    return f"until {certificate.not_valid_after_utc:%Y-%m-%d}" if days is None else f"{days} days"
