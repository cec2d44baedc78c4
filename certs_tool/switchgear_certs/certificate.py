"""The noun *certificate*: a leaf, who issued it, and its key. Touches files only in `Certificate.configure`."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import field, frozen

from switchgear_certs import chain
from switchgear_certs.errors import FileTrouble, UnfitKey
from switchgear_certs.keys import PrivateKey, key_pem, same_key

if TYPE_CHECKING:
    import ssl

    from cryptography import x509


@frozen(kw_only=True, eq=False)
class Certificate:
    """A certificate for a server or a client. `Authority` and `Files` make them. Since: 0.1.

    Attributes:
        leaf: The certificate itself.
        issuers: Who issued it, upwards; the root last when it is known.
        key: Its private key; None when somebody else has it.
    """

    leaf: x509.Certificate
    issuers: tuple[x509.Certificate, ...] = ()
    key: PrivateKey | None = field(default=None, repr=False)

    def __attrs_post_init__(self) -> None:
        """Refuse a key of another certificate."""
        if self.key is not None and not same_key(self.key.public_key(), self.leaf.public_key()):
            raise UnfitKey(f"the key does not belong to the certificate {chain.title(self.leaf)}")

    def __repr__(self) -> str:
        return f"<Certificate {chain.title(self.leaf)} until {self.leaf.not_valid_after_utc:%Y-%m-%d}>"

    @property
    def names(self) -> tuple[str, ...]:
        """DNS names and IP addresses, as they stand in the certificate."""
        return chain.names_of(self.leaf)

    @property
    def common_name(self) -> str | None:
        """The common name of the subject, which brokers may take for a client's user name."""
        return chain.common_name(self.leaf)

    @property
    def purpose(self) -> str | None:
        """``server`` or ``client``; None for a certificate that is for both, or for something else."""
        purposes = chain.purposes_of(self.leaf)
        return purposes[0] if len(purposes) == 1 and purposes[0] in {"server", "client"} else None

    @property
    def root(self) -> x509.Certificate | None:
        """The self-signed certificate at the end; None when it is not known."""
        last = self.issuers[-1] if self.issuers else self.leaf
        return last if chain.is_self_signed(last) else None

    @property
    def certificate_pem(self) -> bytes:
        """What the owner shows in a handshake: the leaf, then its issuers without the root."""
        return chain.to_pem([self.leaf, *(each for each in self.issuers if not chain.is_self_signed(each))])

    @property
    def chain_pem(self) -> bytes:
        """The issuers, each certifying the one before, the root last: what ACM calls the chain."""
        return chain.to_pem(self.issuers)

    @property
    def key_pem(self) -> bytes:
        """The private key, not encrypted.

        Raises:
            UnfitKey: somebody else has it.
        """
        if self.key is None:
            raise UnfitKey(f"the key of {chain.title(self.leaf)} is not here: it was certified from a request")
        return key_pem(self.key)

    def configure(self, context: ssl.SSLContext) -> None:
        """Let *context* show this certificate, and trust its root.

        The key is in a file that only this user can read for as long as OpenSSL reads it.

        Raises:
            UnfitKey: the key is not here.
            FileTrouble: the temporary folder is not writable.
        """
        shown = self.certificate_pem + self.key_pem
        try:
            with tempfile.TemporaryDirectory(prefix="switchgear-certs-") as folder:  # made with mode 0700
                path = Path(folder, "shown.pem")
                with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                    file.write(shown)
                context.load_cert_chain(path)
        except FileNotFoundError as error:
            raise FileTrouble(f"no temporary folder: {error.strerror}") from error
        if self.root is not None:
            context.load_verify_locations(cadata=chain.to_pem([self.root]).decode("ascii"))
