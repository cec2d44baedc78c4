"""The CloudFormation template of an active-standby pair with its users, rights, logs and network. Pure: no I/O.

The configuration is named by the broker itself and not by an ``AWS::AmazonMQ::ConfigurationAssociation``: that one takes
effect at the next restart only, so that a new broker would run without its authorization map, where any user may do
anything; and AWS's reference forbids to use both.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

from switchgear.errors import ConfigurationError

from switchgear_activemq.amazon_mq import broker_xml

if TYPE_CHECKING:
    from switchgear_activemq.amazon_mq.permissions import Permissions, User

MQTT_PORT: Final = 8883
CONSOLE_PORT: Final = 8162
VERSIONS: Final = ("5.19", "5.18")
"""ActiveMQ versions that Amazon MQ offers, the recommended one first. Source: "Managing engine versions", read 2026-11."""

INSTANCES: Final = ("mq.m5.large", "mq.m5.xlarge", "mq.m5.2xlarge", "mq.m5.4xlarge", "mq.t3.micro")
"""Instance types, the default first. A large one takes 1 000 connections of MQTT, a micro one 100; a micro one is for trials."""

MOST_USERS: Final = 60
"""Users of one template: each password is a dynamic reference, of which CloudFormation takes 60 in one template.

Source: CloudFormation user guide, "Get values stored in other services using dynamic references", read 2026-11.
"""

DAYS: Final = ("MONDAY", "TUESDAY", "WEDNESDAY", "THURSDAY", "FRIDAY", "SATURDAY", "SUNDAY")

ARCHITECTURE: Final = (
    "MQTT clients in ClientCidr reach an active-standby pair of ActiveMQ brokers on one store, through one security group."
    " The broker is made with its configuration, which holds the authorization map; its passwords come from one secret"
    " for each user."
)
WHY: Final = {
    "AWS::SecretsManager::Secret": "A user's password is made here, so that it is in no file and in no template.",
    "AWS::EC2::SecurityGroup": "Only clients in ClientCidr reach the brokers, and only on the ports that are used.",
    "AWS::Logs::ResourcePolicy": "Amazon MQ writes its logs only where it is allowed to before the broker is made.",
    "AWS::AmazonMQ::Configuration": "Without the authorization map any user may do anything.",
    "AWS::AmazonMQ::Broker": "A pair in two availability zones goes on when one of them, or one broker, is lost.",
}
"""Why each type of resource is there: CloudFormation's context metadata, for people and programs that read a stack."""

_CONTEXT: Final = "com.aws.cloudformation.Context"

Json = dict[str, Any]


def template(permissions: Permissions) -> str:
    """The template as JSON; the same permissions always give the same text. No password is in it."""
    return json.dumps(build(permissions), indent=2, ensure_ascii=False) + "\n"


def build(permissions: Permissions) -> Json:
    """The template.

    Raises:
        ConfigurationError: there are more users than CloudFormation takes.
    """
    if len(permissions.users) > MOST_USERS:
        raise ConfigurationError(
            f"there are {len(permissions.users)} users; CloudFormation takes {MOST_USERS} passwords from Secrets Manager in one"
            " template; leave some out, and add them to the broker with `aws mq create-user`"
        )
    secrets = _secret_names(permissions)
    resources = {
        **{secret: _secret(user) for user, secret in secrets.items()},
        "SecurityGroup": _security_group(permissions),
        "LogPolicy": _log_policy(),
        "Configuration": _configuration(permissions),
        "Broker": _broker(permissions, secrets),
    }
    return {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": f"Amazon MQ for ActiveMQ: the active-standby pair {permissions.name}, made by switchgear",
        "Metadata": {_CONTEXT: {"arch": ARCHITECTURE}},
        "Parameters": _parameters(permissions),
        "Resources": {
            name: {"Type": each["Type"], "Metadata": {_CONTEXT: {"why": WHY[each["Type"]]}}, **each}
            for name, each in resources.items()
        },
        "Outputs": {
            "BrokerId": {"Description": "For switchgear activemq endpoints and drill", "Value": {"Ref": "Broker"}},
            "FailoverUri": {
                "Description": "Where MQTT clients connect",
                "Value": {
                    "Fn::Join": [
                        "",
                        ["failover:(", {"Fn::Join": [",", {"Fn::GetAtt": ["Broker", "MqttEndpoints"]}]}, ")"],
                    ]
                },
            },
            **{
                f"{secret}Arn": {"Description": f"Where the password of {user.name} is", "Value": {"Ref": secret}}
                for user, secret in secrets.items()
            },
        },
    }


def _parameters(permissions: Permissions) -> Json:
    return {
        "BrokerName": {
            "Type": "String",
            "Default": permissions.name,
            "AllowedPattern": "[A-Za-z0-9_-]{1,50}",
            "ConstraintDescription": "1 to 50 letters, digits, - and _",
        },
        "EngineVersion": {"Type": "String", "Default": VERSIONS[0], "AllowedValues": list(VERSIONS)},
        "InstanceType": {"Type": "String", "Default": INSTANCES[0], "AllowedValues": list(INSTANCES)},
        "VpcId": {"Type": "AWS::EC2::VPC::Id"},
        "SubnetIds": {
            "Type": "List<AWS::EC2::Subnet::Id>",
            "Description": "Two subnets in two availability zones",
        },
        "ClientCidr": {
            "Type": "String",
            "Default": "10.0.0.0/8",
            "AllowedPattern": r"\d{1,3}(\.\d{1,3}){3}/\d{1,2}",
            "Description": "Where clients come from",
            "ConstraintDescription": "an IPv4 range, such as 10.0.0.0/8",
        },
        "MaintenanceDay": {"Type": "String", "Default": "SUNDAY", "AllowedValues": list(DAYS)},
        "MaintenanceTime": {
            "Type": "String",
            "Default": "03:00",
            "AllowedPattern": "([01][0-9]|2[0-3]):[0-5][0-9]",
            "Description": "When the weekly two hours begin in which Amazon MQ may restart the brokers",
            "ConstraintDescription": "hours and minutes, such as 03:00",
        },
        "MaintenanceTimeZone": {"Type": "String", "Default": "UTC"},
    }


def _secret(user: User) -> Json:
    return {
        "Type": "AWS::SecretsManager::Secret",
        "DeletionPolicy": "Delete",  # Secrets Manager keeps it for 30 days more
        "UpdateReplacePolicy": "Delete",
        "Properties": {
            "Description": {"Fn::Sub": f"The password of {user.name} on the Amazon MQ broker ${{BrokerName}}"},
            "GenerateSecretString": {
                "SecretStringTemplate": json.dumps({"username": user.name}),
                "GenerateStringKey": "password",
                "PasswordLength": 40,
                "ExcludePunctuation": True,  # Amazon MQ refuses , : and =
            },
        },
    }


def _security_group(permissions: Permissions) -> Json:
    ports = {MQTT_PORT: "MQTT over TLS"}
    if any(user.console for user in permissions.users):
        ports[CONSOLE_PORT] = "The web console"
    return {
        "Type": "AWS::EC2::SecurityGroup",
        "Properties": {
            "GroupDescription": {"Fn::Sub": "Clients of the Amazon MQ broker ${BrokerName}"},
            "VpcId": {"Ref": "VpcId"},
            "SecurityGroupIngress": [
                {
                    "Description": what,
                    "IpProtocol": "tcp",
                    "FromPort": port,
                    "ToPort": port,
                    "CidrIp": {"Ref": "ClientCidr"},
                }
                for port, what in ports.items()
            ],
        },
    }


def _log_policy() -> Json:
    """Without it Amazon MQ may not write its logs. Source: "Configuring Amazon MQ for ActiveMQ logs", read 2026-11."""
    resource = "arn:${AWS::Partition}:logs:${AWS::Region}:${AWS::AccountId}:log-group:/aws/amazonmq/*"
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": "mq.amazonaws.com"},
        "Action": ["logs:CreateLogStream", "logs:PutLogEvents"],
        "Resource": resource,
        "Condition": {"StringEquals": {"aws:SourceAccount": "${AWS::AccountId}"}},
    }
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    return {
        "Type": "AWS::Logs::ResourcePolicy",
        "Properties": {
            "PolicyName": {"Fn::Sub": "${AWS::StackName}-amazon-mq"},
            "PolicyDocument": {"Fn::Sub": document},
        },
    }


def _configuration(permissions: Permissions) -> Json:
    return {
        "Type": "AWS::AmazonMQ::Configuration",
        "Properties": {
            "Name": {"Ref": "BrokerName"},
            "Description": "Made by switchgear activemq template",
            "EngineType": "ACTIVEMQ",
            "EngineVersion": {"Ref": "EngineVersion"},
            "Data": {"Fn::Base64": broker_xml.amazon(permissions)},
        },
    }


def _broker(permissions: Permissions, secrets: dict[User, str]) -> Json:
    return {
        "Type": "AWS::AmazonMQ::Broker",
        "DependsOn": "LogPolicy",
        "Properties": {
            "BrokerName": {"Ref": "BrokerName"},
            "EngineType": "ACTIVEMQ",
            "EngineVersion": {"Ref": "EngineVersion"},
            "AutoMinorVersionUpgrade": True,  # from 5.18 on Amazon MQ takes no other value
            "DeploymentMode": "ACTIVE_STANDBY_MULTI_AZ",
            "HostInstanceType": {"Ref": "InstanceType"},
            "StorageType": "EFS",  # a pair shares its store
            "AuthenticationStrategy": "SIMPLE",
            "PubliclyAccessible": False,
            "SubnetIds": {"Ref": "SubnetIds"},
            "SecurityGroups": [{"Ref": "SecurityGroup"}],
            "Configuration": {
                "Id": {"Ref": "Configuration"},
                "Revision": {"Fn::GetAtt": ["Configuration", "Revision"]},
            },
            "Logs": {"General": True, "Audit": True},
            "MaintenanceWindowStartTime": {
                "DayOfWeek": {"Ref": "MaintenanceDay"},
                "TimeOfDay": {"Ref": "MaintenanceTime"},
                "TimeZone": {"Ref": "MaintenanceTimeZone"},
            },
            "Users": [
                {
                    "Username": user.name,
                    "Password": {
                        "Fn::Sub": f"{{{{resolve:secretsmanager:${{{secrets[user]}}}:SecretString:password}}}}"
                    },
                    **({"Groups": list(user.groups)} if user.groups else {}),
                    "ConsoleAccess": user.console,
                }
                for user in permissions.users
            ],
        },
    }


def _secret_names(permissions: Permissions) -> dict[User, str]:
    """The logical id of each user's secret: letters and digits only, and each one's own."""
    found: dict[User, str] = {}
    for user in permissions.users:
        stem = "".join(part[:1].upper() + part[1:] for part in re.findall(r"[A-Za-z0-9]+", user.name))[:200]
        name, number = f"Secret{stem}", 2
        while name in found.values():
            name, number = f"Secret{stem}No{number}", number + 1
        found[user] = name
    return found
