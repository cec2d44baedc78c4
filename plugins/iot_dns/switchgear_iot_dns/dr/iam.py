"""The IAM statement that a denied call needs. Pure."""

from __future__ import annotations

import json
from typing import Final

_ZONE: Final = "arn:aws:route53:::hostedzone/{zone}"

RESOURCES: Final = {
    "route53:GetHostedZone": _ZONE,
    "route53:ListResourceRecordSets": _ZONE,
    "route53:ChangeResourceRecordSets": _ZONE,
    "route53:ListResourceRecordSetProtections": _ZONE,
    "route53:GetChange": "arn:aws:route53:::change/*",
    "iot:DeleteConnection": "arn:aws:iot:{region}:{account}:client/*",
    "iot:GetConnection": "arn:aws:iot:{region}:{account}:client/*",
    "iot:SearchIndex": "arn:aws:iot:{region}:{account}:index/AWS_Things",
    "iot:DescribeDomainConfiguration": "arn:aws:iot:{region}:{account}:domainconfiguration/*",
    "iot:ListDomainConfigurations": "*",
    "iot:DescribeEndpoint": "*",
    "acm:DescribeCertificate": "arn:aws:acm:{region}:{account}:certificate/*",
    "servicequotas:ListServiceQuotas": "*",
}
"""Every action that the tool calls, and the resource that it needs it on."""

_PREFIXES: Final = {"iot-data": "iot", "service-quotas": "servicequotas"}


def action(service: str, operation: str) -> str:
    """The IAM action of an operation of a boto3 client, such as iot:DeleteConnection."""
    return f"{_PREFIXES.get(service, service)}:{operation}"


def statement(name: str, *, zone: str, region: str, account: str | None = None) -> str:
    """The statement that allows the action *name*, as JSON; without *account* it holds for any account's resource."""
    resource = RESOURCES.get(name, "*").format(zone=zone, region=region, account=account or "*")
    return json.dumps({"Effect": "Allow", "Action": name, "Resource": resource})


def policy(*, zone: str) -> dict[str, object]:
    """The whole policy that the tool needs, for the documentation and for copying."""
    by_resource: dict[str, list[str]] = {}
    for name, resource in RESOURCES.items():
        by_resource.setdefault(resource.format(zone=zone, region="*", account="*"), []).append(name)
    return {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Action": actions, "Resource": resource} for resource, actions in by_resource.items()
        ],
    }
