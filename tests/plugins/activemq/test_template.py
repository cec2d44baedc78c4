from __future__ import annotations

import base64
import importlib
import json
from pathlib import Path
from typing import Any

import pytest
from switchgear.errors import ConfigurationError
from switchgear_activemq import plan, read
from switchgear_activemq.amazon_mq import broker_xml
from switchgear_activemq.amazon_mq.permissions import EXAMPLE, Permissions
from switchgear_activemq.amazon_mq.permissions_file import example, parse
from switchgear_activemq.amazon_mq.template import MOST_USERS, VERSIONS, build, template

AWKWARD = """
[users."a-b"]
groups = ["g.1~x"]
[users."a.b"]
groups = ["g.1~x"]
[users."--"]
groups = ["g.1~x"]
[users.onlooker]
console = true
[groups."g.1~x"]
publish = ["a<b/&/$x", "x/#"]
create = ["#"]
"""


def permissions(text: str) -> Permissions:
    return parse(text, Path("p.toml"))


@pytest.mark.parametrize("text", [EXAMPLE, AWKWARD])
def test_no_finding(text: str) -> None:
    """cfn-lint finds nothing in the template, whatever users and topics are called: no error, warning or information."""
    cfnlint = importlib.import_module("cfnlint")
    assert cfnlint.lint_all(template(permissions(text))) == []


def test_the_linter_would_find_something() -> None:
    """A template with a misspelt property, or without a needed one, has findings: the linter does look."""
    cfnlint = importlib.import_module("cfnlint")
    made = build(example())
    made["Resources"]["Broker"]["Properties"]["EngineVersions"] = "5.19"
    del made["Resources"]["Broker"]["Properties"]["DeploymentMode"]
    assert len(cfnlint.lint_all(json.dumps(made))) >= 2


def resolved(value: Any, known: dict[str, Any]) -> Any:
    """*value* with its intrinsic functions worked out, from what is *known* by name."""
    if isinstance(value, list):
        return [resolved(each, known) for each in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {"Ref"}:
        return known[value["Ref"]]
    if set(value) == {"Fn::GetAtt"}:
        return known[".".join(value["Fn::GetAtt"])]
    if set(value) == {"Fn::Base64"}:
        return base64.b64encode(resolved(value["Fn::Base64"], known).encode()).decode()
    if set(value) == {"Fn::Sub"}:
        text = value["Fn::Sub"]
        for name, meant in known.items():
            text = text.replace("${" + name + "}", str(meant))
        return text
    return {name: resolved(each, known) for name, each in value.items()}


@pytest.mark.parametrize("version", VERSIONS)
def test_moto_creates_it(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the template's own values Amazon MQ's API, played by moto, makes the configuration and the broker as written."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    boto3, moto = importlib.import_module("boto3"), importlib.import_module("moto")
    made = build(example())
    known = {name: parameter.get("Default") for name, parameter in made["Parameters"].items()}
    known |= {
        "EngineVersion": version,
        "SubnetIds": ["subnet-1", "subnet-2"],
        "VpcId": "vpc-1",
        "SecurityGroup": "sg-1",
    }
    known |= {name: f"arn:of:{name}" for name in made["Resources"] if name.startswith("Secret")}
    with moto.mock_aws():
        mq = boto3.client("mq", region_name="eu-west-1")
        wanted = resolved(made["Resources"]["Configuration"]["Properties"], known)
        data, description = wanted.pop("Data"), wanted.pop("Description")
        configuration = mq.create_configuration(**wanted)["Id"]
        revision = mq.update_configuration(ConfigurationId=configuration, Data=data, Description=description)
        known |= {"Configuration": configuration, "Configuration.Revision": revision["LatestRevision"]["Revision"]}
        broker = resolved(made["Resources"]["Broker"]["Properties"], known)
        broker_id = mq.create_broker(**broker)["BrokerId"]
        kept = mq.describe_configuration_revision(
            ConfigurationId=configuration, ConfigurationRevision=str(known["Configuration.Revision"])
        )
        told = mq.describe_broker(BrokerId=broker_id)
    assert base64.b64decode(kept["Data"]).decode() == broker_xml.amazon(example())
    assert told["EngineVersion"] == version
    assert told["DeploymentMode"] == "ACTIVE_STANDBY_MULTI_AZ"
    assert told["Configurations"]["Current"] == {"Id": configuration, "Revision": known["Configuration.Revision"]}
    assert told["Logs"]["General"] is told["Logs"]["Audit"] is True
    assert told["PubliclyAccessible"] is False
    assert told["MaintenanceWindowStartTime"] == {"DayOfWeek": "SUNDAY", "TimeOfDay": "03:00", "TimeZone": "UTC"}
    assert [user["Username"] for user in told["Users"]] == ["admin", "publisher", "subscriber"]


def test_passwords_are_not_in_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """A password that the file holds is not in the template: each user has a secret, which the broker reads."""
    text = EXAMPLE.replace("[users.admin]", '[users.admin]\npassword = "correct-horse-battery"')
    made = template(permissions(text))
    assert "correct-horse" not in made
    assert made == template(example())
    properties = json.loads(made)["Resources"]["Broker"]["Properties"]
    assert [user["Password"] for user in properties["Users"]] == [
        {"Fn::Sub": "{{resolve:secretsmanager:${Secret" + name + "}:SecretString:password}}"}
        for name in ("Admin", "Publisher", "Subscriber")
    ]


def test_awkward_names() -> None:
    """Users whose names differ only in punctuation have secrets of their own; a console user needs no group."""
    made = build(permissions(AWKWARD))
    secrets = [name for name in made["Resources"] if name.startswith("Secret")]
    assert secrets == ["Secret", "SecretAB", "SecretABNo2", "SecretOnlooker"]
    users = made["Resources"]["Broker"]["Properties"]["Users"]
    assert "Groups" not in next(user for user in users if user["Username"] == "onlooker")
    ports = [rule["FromPort"] for rule in made["Resources"]["SecurityGroup"]["Properties"]["SecurityGroupIngress"]]
    assert ports == [8883, 8162]


def test_no_console_no_port() -> None:
    """Without console users the console's port stays closed."""
    made = build(permissions(EXAMPLE.replace("console = true", "")))
    (rule,) = made["Resources"]["SecurityGroup"]["Properties"]["SecurityGroupIngress"]
    assert rule["FromPort"] == rule["ToPort"] == 8883


def test_the_broker_starts_with_its_map() -> None:
    """The broker itself names the configuration: an association would leave it without a map until a restart."""
    made = build(example())["Resources"]
    assert made["Broker"]["Properties"]["Configuration"]["Id"] == {"Ref": "Configuration"}
    assert "AWS::AmazonMQ::ConfigurationAssociation" not in {resource["Type"] for resource in made.values()}


def test_the_uri_of_the_outputs() -> None:
    """The stack's output, made of what CloudFormation calls MqttEndpoints, is a URI that this plugin takes."""
    outer, (begin, inner, end) = build(example())["Outputs"]["FailoverUri"]["Value"]["Fn::Join"]
    separator, endpoints = inner["Fn::Join"]
    assert endpoints == {"Fn::GetAtt": ["Broker", "MqttEndpoints"]}
    hosts = ["mqtt+ssl://b-1-1.mq.eu-west-1.amazonaws.com:8883", "mqtt+ssl://b-1-2.mq.eu-west-1.amazonaws.com:8883"]
    group = plan(read(outer.join([begin, separator.join(hosts), end]))).group
    assert [str(endpoint) for endpoint in group.endpoints] == [uri.replace("mqtt+ssl", "mqtts") for uri in hosts]


def test_as_many_users_as_cloudformation_takes() -> None:
    """60 users make a template without a finding; with 61 CloudFormation would refuse it, and so it is refused here."""
    users = [f'[users.u{number:02}]\ngroups = ["gg"]\n' for number in range(MOST_USERS + 1)]
    group = "[groups.gg]\nadmin = true\n"
    cfnlint = importlib.import_module("cfnlint")
    assert cfnlint.lint(template(permissions(group + "".join(users[:-1])))) == []
    with pytest.raises(ConfigurationError, match="there are 61 users; CloudFormation takes 60"):
        build(permissions(group + "".join(users)))
