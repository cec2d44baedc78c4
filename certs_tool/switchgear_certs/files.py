"""The noun *files*: one folder with an authority, its certificates and their keys. Reads; `store` does the writing.

ca.crt, ca.key                  the root: the certificate that everybody gets, and its key
issuing.crt, issuing.key        the issuing CA, where there is one; then ca.key may be kept elsewhere
NAME.crt, NAME.key              a pair for each server and client; NAME.crt holds the issuing CA's certificate too
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from attrs import field, frozen

from switchgear_certs import chain
from switchgear_certs.authority import Authority
from switchgear_certs.certificate import Certificate
from switchgear_certs.errors import AlreadyThere, FileTrouble, InvalidName, UnfitAuthority, UnfitKey
from switchgear_certs.keys import is_encrypted, key_pem, load_key
from switchgear_certs.names import server_name
from switchgear_certs.store import SECRET, Change, changing, read, read_if_there, recover

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from cryptography import x509

CA: Final = "ca"
ISSUING: Final = "issuing"
KEY_MARK: Final = b"PRIVATE KEY-----"
_LONGEST: Final = 255 - len(".bundle.pem")
"""Characters of a file's name without its ending; the file systems in use have 255 with it."""


def _path(folder: str | os.PathLike[str]) -> Path:
    return Path(folder)


@frozen
class Files:
    """The certificates in one folder. Nothing is read or made before a method asks for it. Since: 0.1."""

    folder: Path = field(default=Path("certs"), converter=_path)

    @property
    def ca_file(self) -> Path:
        """The root's certificate: what clients are to trust."""
        return self.folder / f"{CA}.crt"

    def pair(self, name: str) -> tuple[Path, Path]:
        """Where the certificate and the key of the server or client *name* are, whether they exist or not.

        Raises:
            InvalidName: a file system has no room for so long a name.
        """
        stem = self.stem(name)
        if len(stem.encode()) > _LONGEST:
            raise InvalidName(
                f"{stem[:60]}...: {len(stem)} characters are too many for the name of a file, at most {_LONGEST};"
                " put a shorter name first, and this one behind it with --san"
            )
        return self.folder / f"{stem}.crt", self.folder / f"{stem}.key"

    @staticmethod
    def stem(name: str) -> str:
        """The file name, without the ending, of the certificate for *name*."""
        try:
            return server_name(name).stem
        except InvalidName:
            return name

    def authority(self, passphrase: str | Callable[[str], str] | None = None) -> Authority:
        """The authority in this folder; *passphrase* may be a function that is asked only when the key is encrypted.

        Raises:
            UnfitAuthority: there is none, it is no CA, or the key belongs to another one.
            WrongPassphrase: the key does not open.
            FileTrouble: a file is missing, unreadable or damaged.
        """
        certificate, *issuers = self.authority_chain()
        stem = ISSUING if self.has_issuing else CA
        key_file = self.folder / f"{stem}.key"
        pem = read_if_there(key_file)
        if pem is None:
            raise FileTrouble(f"{key_file} is missing; bring back the authority's key, it cannot be made again")
        if callable(passphrase):
            passphrase = passphrase(str(key_file)) if is_encrypted(pem) else None
        key = load_key(pem, where=str(key_file), passphrase=passphrase)
        try:
            return Authority(certificate=certificate, issuers=tuple(issuers), key=key)
        except UnfitAuthority as error:
            raise UnfitAuthority(f"{self.folder / stem}.crt: {error}") from error

    @property
    def has_issuing(self) -> bool:
        """Whether an issuing CA stands below the root."""
        return (self.folder / f"{ISSUING}.crt").exists() or (self.folder / f"{ISSUING}.key").exists()

    def authority_chain(self) -> list[x509.Certificate]:
        """The certificate of the authority that issues, then those above it, without looking at keys.

        Raises:
            UnfitAuthority: there is none, or the issuing CA is of another root.
            FileTrouble: a file is missing, unreadable or damaged.
        """
        recover(self.folder)
        if read_if_there(self.ca_file) is None:
            raise UnfitAuthority(f"there is no authority in {self.folder}; make one with `switchgear-certs init`")
        root = chain.load_pem(read(self.ca_file), where=str(self.ca_file))[0]
        if not self.has_issuing:
            return [root]
        path = self.folder / f"{ISSUING}.crt"
        if not path.exists():
            raise FileTrouble(f"{path} is missing, and its key is there; bring the issuing CA's certificate back")
        issuing = chain.load_pem(read(path), where=str(path))[0]
        if not chain.is_issued_by(issuing, root):
            raise UnfitAuthority(f"{path} was not issued by {self.ca_file}")
        return [issuing, root]

    def certificate(self, what: str | os.PathLike[str], *, with_key: bool = True) -> Certificate:
        """The certificate for the name *what* in this folder, or in the file *what*; with its issuers and its key.

        Issuers are looked for in the file itself and in the authority's files beside it. The key is that in the same
        file, or in the file with the ending ``.key``; there may be none.

        Raises:
            FileTrouble: there is no such certificate, or a file is unreadable or damaged.
            UnfitKey: the key belongs to another certificate.
        """
        path = self.locate(what)
        recover(path.parent)
        data = read(path)
        leaf, *others = chain.load_pem(data, where=str(path))
        for folder in dict.fromkeys((path.parent, self.folder)):
            for stem in (ISSUING, CA):
                beside = folder / f"{stem}.crt"
                if beside != path and beside.is_file():
                    others += chain.load_pem(read(beside), where=str(beside))
        key_file, key = self.key_file(path), None
        pem = (data if KEY_MARK in data else read_if_there(key_file)) if with_key else None
        if pem is not None:
            key = load_key(pem, where=str(path if pem is data else key_file))
        try:
            return Certificate(leaf=leaf, issuers=chain.issuers_of(leaf, others), key=key)
        except UnfitKey as error:
            raise UnfitKey(f"{key_file} does not belong to {path}; they are of different pairs") from error

    @staticmethod
    def key_file(certificate_file: Path) -> Path:
        """Where the key of *certificate_file* would be."""
        return certificate_file.with_suffix(".key")

    def locate(self, what: str | os.PathLike[str]) -> Path:
        """The certificate file that *what* means: a path, or a name in this folder.

        Raises:
            FileTrouble: there is neither.
        """
        try:
            path = Path(what)
            if path.is_file():
                return path
            named = self.pair(str(what))[0]
            if named.is_file():
                return named
            there = sorted(each.stem for each in self.folder.glob("*.crt"))
        except (OSError, ValueError) as error:
            raise FileTrouble(f"{str(what)!r} is no file: {error}") from error
        known = f"; {self.folder} has {', '.join(there)}" if there else ""
        raise FileTrouble(f"{what}: neither a file nor a certificate in {self.folder}{known}")

    def save(
        self, *things: Authority | Certificate, passphrase: str | None = None, force: bool = False
    ) -> tuple[Path, ...]:
        """Write *things*, all or none, and return where they are; *passphrase* encrypts the keys of an authority.

        A certificate's files are called after its common name, else its first name.

        Raises:
            AlreadyThere: another one is in a place, and *force* is not given.
            FileTrouble: the folder is not writable; nothing was changed.
        """
        written: list[Path] = []
        with changing(self.folder) as change:
            for thing in things:
                if isinstance(thing, Authority):
                    written += put_authority(change, thing, passphrase)
                else:
                    written += put_certificate(change, self.stem(chain.title(thing.leaf)), thing)
            if not force:
                for name in change.entries:
                    if (self.folder / name).exists():
                        raise AlreadyThere(f"{self.folder / name} is there already; force replaces it")
        return tuple(written)


def put_authority(change: Change, authority: Authority, passphrase: str | None) -> list[Path]:
    """Put the files of *authority* into *change*; those of its root's key only where it is at hand."""
    files: dict[str, bytes] = {f"{CA}.crt": authority.ca_pem}
    if authority.issuers:
        files[f"{ISSUING}.crt"] = chain.to_pem([authority.certificate])
    keys = {f"{ISSUING if authority.issuers else CA}.key": key_pem(authority.key, passphrase)}
    if authority.root_key is not None:
        keys[f"{CA}.key"] = key_pem(authority.root_key, passphrase)
    for name, data in files.items():
        change.put(name, data)
    for name, data in keys.items():
        change.put(name, data, mode=SECRET)
    return sorted(change.folder / name for name in (*files, *keys))


def put_certificate(change: Change, stem: str, certificate: Certificate) -> list[Path]:
    """Put the pair of *certificate* into *change*, or the certificate alone where somebody else has the key."""
    names = [f"{stem}.crt"]
    change.put(names[0], certificate.certificate_pem)
    if certificate.key is not None:
        names.append(f"{stem}.key")
        change.put(names[1], certificate.key_pem, mode=SECRET)
    return [change.folder / name for name in names]
