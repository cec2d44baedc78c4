"""What AWS Certificate Manager wants: three files, and the import itself. Only `import_certificate` opens connections."""

from __future__ import annotations

import importlib
import re
from typing import TYPE_CHECKING, Any, Final

from attrs import field, frozen

from switchgear_certs import chain
from switchgear_certs.aws_iot import Subject, check_aws_iot
from switchgear_certs.errors import Unavailable, UnfitRequest
from switchgear_certs.findings import failed
from switchgear_certs.keys import kind

if TYPE_CHECKING:
    import datetime as dt

    from switchgear_certs.certificate import Certificate

LEAF, CHAIN, KEY = "leaf.pem", "chain.pem", "key.pem"

_ALGORITHMS: Final = {"P-256": "EC_prime256v1", "RSA-2048": "RSA_2048"}


@frozen(kw_only=True)
class AcmSet:
    """The contents of the three files: the leaf alone, its issuers with the root last, the key in the clear."""

    leaf: bytes
    chain: bytes
    key: bytes = field(repr=False)


def acm_set(certificate: Certificate, *, now: dt.datetime) -> AcmSet:
    """The three files for *certificate*.

    Raises:
        UnfitRequest: AWS IoT would refuse it; the message names the first rule that fails.
        UnfitKey: the key is not here.
    """
    leaf = chain.to_pem([certificate.leaf])
    subject = Subject(
        pem=leaf,
        certificates=(certificate.leaf,),
        beside=certificate.issuers,
        key_pem=certificate.key_pem,
    )
    wrong = failed(check_aws_iot(subject, now=now))
    if wrong:
        raise UnfitRequest(f"AWS IoT refuses {chain.title(certificate.leaf)}: {wrong[0].rule}: {wrong[0].text}")
    return AcmSet(leaf=leaf, chain=certificate.chain_pem, key=certificate.key_pem)


def import_certificate(
    files: AcmSet, certificate: Certificate, *, region: str | None, profile: str | None, arn: str | None
) -> str:
    """Import *files* into ACM and return the ARN; with *arn* again into that one, which must be the same certificate.

    Credentials are those that boto3 finds. A re-import is refused when names or key algorithm differ, for AWS IoT
    would keep the old certificate (developer guide, "Managing domain configurations").

    Raises:
        Unavailable: boto3 is not installed, or AWS refused.
        UnfitRequest: *arn* is another certificate.
    """
    client = _client(region, profile)
    errors = importlib.import_module("botocore.exceptions")
    request: dict[str, Any] = {"Certificate": files.leaf, "PrivateKey": files.key}
    if files.chain:
        request["CertificateChain"] = files.chain
    try:
        if arn is not None:
            _compare(client.describe_certificate(CertificateArn=arn)["Certificate"], certificate, arn)
            request["CertificateArn"] = arn
        return str(client.import_certificate(**request)["CertificateArn"])
    except (errors.BotoCoreError, errors.ClientError, ValueError, OSError) as error:  # of an impossible endpoint, too
        raise Unavailable(f"ACM: {_line(error)}") from error


def _client(region: str | None, profile: str | None) -> Any:
    try:
        boto3, errors = importlib.import_module("boto3"), importlib.import_module("botocore.exceptions")
    except ImportError as error:
        raise Unavailable("--import needs boto3: pip install 'switchgear-certs[acm]'") from error
    try:
        return boto3.session.Session(profile_name=profile, region_name=region).client("acm")
    except (errors.BotoCoreError, ValueError, OSError) as error:  # OSError: of a credential_process
        raise Unavailable(f"AWS: {_line(error)}") from error


def _line(error: object) -> str:
    """*error* in one line; http.client shows credentials with a line feed in its own."""
    text = " ".join(str(error).split())
    return re.sub(
        "(Invalid header value) .*", r"\1: there is a line feed in the credentials or in the session token", text
    )


def _compare(known: Any, certificate: Certificate, arn: str) -> None:
    names = set(known.get("SubjectAlternativeNames") or [known.get("DomainName")])
    if names != set(certificate.names):
        raise UnfitRequest(
            f"{arn} is for {', '.join(sorted(str(name) for name in names))}, not for {', '.join(certificate.names)};"
            " AWS IoT takes a re-import only with the same names"
        )
    algorithm = str(known.get("KeyAlgorithm", "")).replace("-", "_")
    own = _ALGORITHMS.get(kind(certificate.leaf.public_key()), "")
    if algorithm and algorithm != own:
        raise UnfitRequest(
            f"{arn} has the key algorithm {algorithm}, not {own}; AWS IoT takes a re-import only with the same"
        )
