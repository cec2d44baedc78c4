"""Private keys: making, writing, reading, and what kind they are. Touches no file.

New keys are P-256 or RSA-2048, the only ones that AWS IoT lists for custom domains ("Creating and configuring customer
managed domains"). Others are met in requests and in what users bring.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final, TypeAlias

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from switchgear_certs.errors import FileTrouble, UnfitKey, WrongPassphrase

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

PrivateKey: TypeAlias = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
PublicKey: TypeAlias = ec.EllipticCurvePublicKey | rsa.RSAPublicKey

LONGEST: Final = 1023
"""Bytes of a passphrase (PEM_BUFSIZE of OpenSSL, less one); cryptography refuses longer ones."""

AWS_REASON: Final = "AWS IoT custom domains take P-256 and RSA-2048 only"


class KeyType(Enum):
    """The kinds of keys that are made here; the values are the words of the command line."""

    P256 = "P-256"
    RSA2048 = "RSA-2048"

    def make(self) -> PrivateKey:
        """A new key."""
        if self is KeyType.P256:
            return ec.generate_private_key(ec.SECP256R1())
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def kind(key: PublicKeyTypes) -> str:
    """What *key* is, in one word: ``P-256``, ``RSA-4096``, ``Ed25519``."""
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA-{key.key_size}"
    if isinstance(key, ec.EllipticCurvePublicKey):
        name = key.curve.name
        return f"P-{name[4:7]}" if name.startswith("secp") and name.endswith("r1") else name
    return type(key).__name__.removesuffix("PublicKey").lstrip("_")


def key_type(key: PublicKeyTypes) -> KeyType | None:
    """The `KeyType` of *key*; None for kinds that are not made here."""
    return next((each for each in KeyType if each.value == kind(key)), None)


def check_public_key(key: PublicKeyTypes, *, aws_limits: bool = True) -> PublicKey:
    """*key*, when a certificate for it may be made.

    Raises:
        UnfitKey: AWS IoT does not take it; without *aws_limits*: it is weak or neither EC nor RSA.
    """
    name = kind(key)
    if aws_limits and key_type(key) is None:
        raise UnfitKey(f"a key of the kind {name}: {AWS_REASON}; lift the limit with --beyond-aws")
    if isinstance(key, rsa.RSAPublicKey):
        if not 2048 <= key.key_size <= 8192:
            raise UnfitKey(f"a key of the kind {name}: RSA keys have 2048 to 8192 bits")
        return key
    if isinstance(key, ec.EllipticCurvePublicKey) and name in {"P-256", "P-384", "P-521"}:
        return key
    raise UnfitKey(f"a key of the kind {name}: TLS with certificates takes P-256, P-384, P-521 and RSA here")


def key_pem(key: PrivateKey, passphrase: str | None = None) -> bytes:
    """*key* as PKCS #8 in PEM, encrypted when there is a *passphrase*.

    Raises:
        WrongPassphrase: it is too long.
    """
    if passphrase is not None and (size := len(passphrase.encode())) > LONGEST:
        raise WrongPassphrase(f"a passphrase of {size} bytes; OpenSSL takes at most {LONGEST}")
    encryption = NoEncryption() if passphrase is None else BestAvailableEncryption(passphrase.encode())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


def is_encrypted(pem: bytes) -> bool:
    """Whether a key in PEM asks for a passphrase (PKCS #8, and OpenSSL's older form)."""
    return b"ENCRYPTED" in pem


def load_key(pem: bytes, *, where: str, passphrase: str | None = None) -> PrivateKey:
    """The private key in *pem*, which came from *where*.

    Raises:
        WrongPassphrase: the passphrase is wrong, missing, or there is nothing to open with it.
        FileTrouble: it is no private key.
        UnfitKey: it is neither EC nor RSA.
    """
    if is_encrypted(pem) and passphrase is None:
        raise WrongPassphrase(f"{where} is encrypted; give its passphrase (--passphrase, -env or -file)")
    if not is_encrypted(pem) and passphrase is not None:
        raise WrongPassphrase(f"{where} is not encrypted; leave the passphrase out")
    try:
        key = load_pem_private_key(pem, None if passphrase is None else passphrase.encode())
    except (ValueError, TypeError) as error:
        if passphrase is not None:
            raise WrongPassphrase(f"{where} does not open with this passphrase") from error
        raise FileTrouble(f"{where} holds no private key in PEM") from error
    except Exception as error:  # cryptography's UnsupportedAlgorithm, and what else a damaged file calls forth
        raise FileTrouble(f"{where} holds no private key that can be read: {error}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise UnfitKey(f"{where} holds a {kind(key.public_key())} key; EC and RSA are taken here")
    return key


def same_key(one: PublicKeyTypes, other: PublicKeyTypes) -> bool:
    """Whether both are the same public key."""
    return _spki(one) == _spki(other)


def _spki(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
