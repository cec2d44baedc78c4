"""The noun *authority*: a CA that makes certificates. Touches nothing but the clock and the random generator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from attrs import field, frozen
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from switchgear_certs import chain, names, profiles
from switchgear_certs.certificate import Certificate
from switchgear_certs.constraints import check_names, constraints
from switchgear_certs.errors import InvalidName, UnfitAuthority, UnfitKey, UnfitRequest
from switchgear_certs.keys import KeyType, PrivateKey, PublicKey, check_public_key, same_key
from switchgear_certs.lifetimes import AUTHORITY_DAYS, LEAF_DAYS, days_of, lifetime, moment
from switchgear_certs.requests import read_request

if TYPE_CHECKING:
    import datetime as dt
    import ssl
    from collections.abc import Sequence

    from cryptography import x509

    from switchgear_certs.lifetimes import Lifetime


@frozen(kw_only=True, eq=False, repr=False)
class Authority:
    """A CA with its key. `Authority.create` makes one, `Files.authority` reads one. Since: 0.1.

    Attributes:
        certificate: The one that issues: the root itself, or the intermediate.
        issuers: Those above it, the root last; empty when it is the root.
        key: The key of ``certificate``.
        root_key: The root's key, where it is at hand and another one.

    Every method that makes something takes *now*, the present time (with a time zone; None is the clock's), so that
    tests can make certificates that have expired.
    """

    certificate: x509.Certificate
    issuers: tuple[x509.Certificate, ...] = ()
    key: PrivateKey = field(repr=False)
    root_key: PrivateKey | None = field(default=None, repr=False)

    def __attrs_post_init__(self) -> None:
        """Refuse what is no CA, or a key of another one."""
        title = chain.title(self.certificate)
        if not chain.is_authority(self.certificate):
            raise UnfitAuthority(f"{title} is no CA: its basic constraints or its key usage say that it issues nothing")
        if not same_key(self.key.public_key(), self.certificate.public_key()):
            raise UnfitAuthority(f"the key does not belong to the authority {title}")
        if not isinstance(self.key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
            raise UnfitKey("an authority signs with EC or RSA here")

    def __repr__(self) -> str:
        return f"<Authority {chain.title(self.certificate)} until {self.certificate.not_valid_after_utc:%Y-%m-%d}>"

    @classmethod
    def create(
        cls,
        *,
        name: str | None = None,
        key_type: KeyType = KeyType.P256,
        days: int | None = None,
        intermediate: bool = False,
        permitted: Sequence[str] = (),
        now: dt.datetime | None = None,
    ) -> Self:
        """A new authority: a root, and with *intermediate* an issuing CA below it.

        Without *name* it is called after its key. *days* hold for the root; the issuing CA ends with it. *permitted*
        are the domains and IP networks that the issuing CA may name (all below them too); empty: anything.

        Raises:
            InvalidName: *name* or one of *permitted*; or these are given without *intermediate*.
            InvalidLifetime: *days* is out of range.
        """
        if permitted and not intermediate:
            raise InvalidName("name constraints need --intermediate: many verifiers ignore them on a root")
        name = None if name is None else names.authority_name(name)
        limits = constraints(permitted)
        life = lifetime(days, default=AUTHORITY_DAYS, now=moment(now))
        root_key = key_type.make()
        root = profiles.root(root_key, name=name, lifetime=life, path_length=1 if intermediate else 0)
        if not intermediate:
            return cls(certificate=root, key=root_key)
        key = key_type.make()
        issuing = profiles.issuing(
            key.public_key(), issuer=root, issuer_key=root_key, lifetime=life, constraints=limits
        )
        return cls(certificate=issuing, issuers=(root,), key=key, root_key=root_key)

    @property
    def root(self) -> x509.Certificate:
        """What clients and servers are to trust."""
        return self.issuers[-1] if self.issuers else self.certificate

    @property
    def ca_pem(self) -> bytes:
        """The root in PEM: the file that everybody gets."""
        return chain.to_pem([self.root])

    @property
    def key_type(self) -> KeyType:
        """What its leaves are by default: of its own family, as ACM wanted it for imported chains."""
        return KeyType.RSA2048 if isinstance(self.key, rsa.RSAPrivateKey) else KeyType.P256

    def configure(self, context: ssl.SSLContext) -> None:
        """Let *context* trust this authority."""
        context.load_verify_locations(cadata=self.ca_pem.decode("ascii"))

    def server(
        self,
        *wanted: str,
        days: int | None = None,
        key_type: KeyType | None = None,
        aws_limits: bool = True,
        now: dt.datetime | None = None,
    ) -> Certificate:
        """A server certificate with a new key for the DNS names and IP addresses *wanted*.

        Without *days* it lives for 90, or until the authority ends.

        Raises:
            InvalidName: a name is invalid, or there are more than AWS IoT takes.
            InvalidLifetime: it would outlive the authority.
            UnfitAuthority: the authority has expired, or its name constraints forbid a name.
        """
        checked = names.server_names(wanted, aws_limits=aws_limits)
        check_names(self.certificate, checked)
        life = self._life(days, now)
        key = (key_type or self.key_type).make()
        return self._server(checked, key.public_key(), key, life)

    def client(
        self,
        name: str,
        *,
        days: int | None = None,
        key_type: KeyType | None = None,
        now: dt.datetime | None = None,
    ) -> Certificate:
        """A client certificate with a new key and the common name *name*.

        Raises:
            InvalidName: *name* is no client's name.
            InvalidLifetime: it would outlive the authority.
            UnfitAuthority: the authority has expired.
        """
        name = self._client_name(name)
        life = self._life(days, now)
        key = (key_type or self.key_type).make()
        return self._client(name, key.public_key(), key, life)

    def sign(
        self,
        request: bytes,
        *,
        purpose: str = "server",
        days: int | None = None,
        aws_limits: bool = True,
        where: str = "the request",
        now: dt.datetime | None = None,
    ) -> Certificate:
        """A certificate for the key and the names of *request*, a CSR in PEM or DER; *purpose* is "server" or "client".

        Raises:
            UnfitRequest: its signature is bad, or it asks for what is not granted.
            UnfitKey: AWS IoT does not take its key.
            InvalidName: as `server` and `client`; likewise `InvalidLifetime` and `UnfitAuthority`.
        """
        asked = read_request(request, where=where, aws_limits=aws_limits)
        if asked.purpose not in {None, purpose}:
            raise UnfitRequest(
                f"{where} asks for a {asked.purpose} certificate; sign it with --purpose {asked.purpose}"
            )
        if purpose == "client":
            if asked.names:
                raise UnfitRequest(
                    f"{where} asks for {', '.join(asked.names)}; a client certificate has a common name only"
                )
            name = self._client_name(asked.common_name or "")
            return self._client(name, asked.public_key, None, self._life(days, now))
        wanted = list(asked.names)
        if asked.common_name is not None:
            first = names.server_name(asked.common_name).text
            wanted = [first, *wanted]  # it is a name that is asked for, and stays the common name
        if not wanted:
            raise UnfitRequest(f"{where} names nothing: neither alternative names nor a common name")
        checked = names.server_names(wanted, aws_limits=aws_limits)
        check_names(self.certificate, checked)
        return self._server(checked, asked.public_key, None, self._life(days, now))

    def renew(
        self,
        certificate: Certificate,
        *,
        keep_key: bool = False,
        days: int | None = None,
        now: dt.datetime | None = None,
    ) -> Certificate:
        """*certificate* anew: same names, purpose and algorithms; a new key unless *keep_key*.

        That is what AWS IoT wants when it takes over a certificate that was imported again under the same ARN
        (developer guide, "Managing domain configurations"). Without *days* it lives as long as the old one did, or
        until the authority ends.

        Raises:
            UnfitRequest: it cannot be made the same here.
            UnfitKey: a new key is wanted, but the key belongs to somebody else.
        """
        old = certificate.leaf
        key: PrivateKey | None = certificate.key
        public_key = check_public_key(old.public_key(), aws_limits=False)
        if not keep_key:
            if key is None:
                raise UnfitKey(
                    f"the key of {chain.title(old)} is not here; --keep-key certifies the same public key again"
                )
            key = _like(public_key)
            public_key = key.public_key()
        life = self._life(days, now, default=days_of(old) or LEAF_DAYS)
        if certificate.purpose == "server" and certificate.names:
            wanted = names.server_names(certificate.names, aws_limits=False)
            check_names(self.certificate, wanted)
            new = self._server(wanted, public_key, key, life)
        elif certificate.purpose == "client":
            new = self._client(self._client_name(certificate.common_name or ""), public_key, key, life)
        else:
            raise UnfitRequest(
                f"{chain.title(old)} was not made here: it is not for servers alone or for clients alone"
            )
        if new.leaf.subject != old.subject or sorted(new.names) != sorted(certificate.names):
            raise UnfitRequest(f"{chain.title(old)} was not made here: its subject or names would change")
        if new.leaf.signature_algorithm_oid != old.signature_algorithm_oid:
            raise UnfitRequest(
                f"{chain.title(old)} was signed with another algorithm than this authority's; AWS IoT would not take"
                " the renewed one for the same certificate. Make a new one with `server --force`"
            )
        return new

    def _life(self, days: int | None, now: dt.datetime | None, *, default: int = LEAF_DAYS) -> Lifetime:
        soonest = min((self.certificate, *self.issuers), key=lambda each: each.not_valid_after_utc)
        return lifetime(days, default=default, now=moment(now), issuer=soonest)

    def _server(
        self, checked: Sequence[names.Name], public_key: PublicKey, key: PrivateKey | None, life: Lifetime
    ) -> Certificate:
        leaf = profiles.server(public_key, names=checked, issuer=self.certificate, issuer_key=self.key, lifetime=life)
        return Certificate(leaf=leaf, issuers=(self.certificate, *self.issuers), key=key)

    def _client(self, name: str, public_key: PublicKey, key: PrivateKey | None, life: Lifetime) -> Certificate:
        leaf = profiles.client(public_key, name=name, issuer=self.certificate, issuer_key=self.key, lifetime=life)
        return Certificate(leaf=leaf, issuers=(self.certificate, *self.issuers), key=key)

    def _client_name(self, name: str) -> str:
        """*name*, checked also against the constraints, which OpenSSL applies to a common name that looks like a host's."""
        name = names.client_name(name)
        if "." in name:
            try:
                host = names.server_name(name)
            except InvalidName:
                return name
            check_names(self.certificate, [host])
        return name


def _like(public_key: PublicKey) -> PrivateKey:
    """A new private key of the same kind and size."""
    if isinstance(public_key, rsa.RSAPublicKey):
        return rsa.generate_private_key(public_exponent=65537, key_size=public_key.key_size)
    return ec.generate_private_key(public_key.curve)
