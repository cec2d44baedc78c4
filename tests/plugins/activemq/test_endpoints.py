from __future__ import annotations

import importlib
import json
import sys
from typing import TYPE_CHECKING, TypeAlias

import pytest
from switchgear.cli.app import main
from switchgear.profile import Profile
from switchgear.testing.processes import free_port
from switchgear_activemq.amazon_mq import commands
from switchgear_activemq.amazon_mq.aws import AmazonMq, AwsRefused, AwsUnavailable, amazon_mq
from switchgear_activemq.amazon_mq.endpoints import NoEndpoints, failover_uri, place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

ID = "b-1234a5b6-78cd-901e-2fgh-3i45j6k178l9"
ARN = f"arn:aws:mq:eu-west-1:123456789012:broker:press:{ID}"


def host(number: int, region: str = "eu-west-1") -> str:
    return f"{ID}-{number}.mq.{region}.amazonaws.com"


def instance(number: int, region: str = "eu-west-1") -> dict[str, object]:
    schemes = {"ssl": 61617, "amqp+ssl": 5671, "stomp+ssl": 61614, "mqtt+ssl": 8883, "wss": 61619}
    return {"Endpoints": [f"{scheme}://{host(number, region)}:{port}" for scheme, port in schemes.items()]}


def answer(**changes: object) -> dict[str, object]:
    """What ``describe_broker`` says of a pair; the parts that are looked at."""
    return {
        "BrokerId": ID,
        "BrokerName": "press",
        "BrokerState": "RUNNING",
        "EngineType": "ACTIVEMQ",
        "DeploymentMode": "ACTIVE_STANDBY_MULTI_AZ",
        "BrokerInstances": [instance(1), instance(2)],
        **changes,
    }


def test_a_pair() -> None:
    """The URI of a pair names the MQTT endpoints of both instances, over TLS, and a profile takes it."""
    found = place(answer(), region="eu-west-1")
    uri = failover_uri([found])
    assert uri == f"failover:(ssl://{host(1)}:8883,ssl://{host(2)}:8883)"
    assert Profile.of(uri, username="u", password="p").where == (uri,)
    assert (found.name, found.state, found.deployment, found.replica) == (
        "press",
        "RUNNING",
        "ACTIVE_STANDBY_MULTI_AZ",
        None,
    )


def test_a_single_instance() -> None:
    """A single instance has one endpoint; an engine's name in small letters is the same engine."""
    found = place(answer(BrokerInstances=[instance(1)], EngineType="ActiveMQ"), region="eu-west-1")
    assert failover_uri([found]) == f"failover:(ssl://{host(1)}:8883)"


def test_the_names_that_are_looked_at() -> None:
    """What is read of an answer is called so in boto3's own model of the service."""
    session = importlib.import_module("botocore.session").get_session()
    shape = session.get_service_model("mq").operation_model("DescribeBroker").output_shape
    assert set(answer()) | {"DataReplicationMetadata"} <= set(shape.members)
    assert "Endpoints" in shape.members["BrokerInstances"].member.members
    counterpart = shape.members["DataReplicationMetadata"].members["DataReplicationCounterpart"]
    assert {"BrokerId", "Region"} <= set(counterpart.members)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"EngineType": "RABBITMQ"}, "is a RABBITMQ; on Amazon MQ only ActiveMQ speaks MQTT"),
        ({"EngineType": ""}, "broker of unknown kind"),
        ({"BrokerInstances": []}, "has no mqtt.ssl endpoint; it is RUNNING: its endpoints are not for MQTT"),
        ({"BrokerInstances": None, "BrokerState": "CREATION_IN_PROGRESS"}, "CREATION_IN_PROGRESS: wait until"),
        ({"BrokerInstances": [{"Endpoints": ["ssl://h.example.com:61617"]}]}, "has no mqtt.ssl endpoint"),
        ({"BrokerInstances": [{"ConsoleURL": "https://h"}]}, "has no mqtt.ssl endpoint"),
        ({"BrokerInstances": [{"Endpoints": ["mqtt+ssl://mockmq:8883"]}]}, "'mqtt.ssl://mockmq:8883', which is no address"),
        ({"BrokerInstances": [{"Endpoints": ["mqtt+ssl://h.example.com"]}]}, "which is no address"),
    ],
)  # fmt: skip
def test_no_endpoints(changes: dict[str, object], why: str) -> None:
    """A RabbitMQ broker, one without MQTT, one that is being made, and an emulator's dummies are each one line."""
    with pytest.raises(NoEndpoints, match=why) as caught:
        place(answer(**changes), region="eu-west-1")
    assert len(str(caught.value).splitlines()) == 1
    assert ID in str(caught.value)


class FakeClient:
    """boto3's client: answers by broker, or an error."""

    def __init__(self, brokers: Mapping[str, object], error: Exception | None = None) -> None:
        self.brokers = brokers
        self.error = error
        self.rebooted: list[str] = []

    def describe_broker(self, *, BrokerId: str) -> object:  # noqa: N803 - boto3's name
        if self.error is not None:
            raise self.error
        return self.brokers[BrokerId]

    def reboot_broker(self, *, BrokerId: str) -> object:  # noqa: N803 - boto3's name
        if self.error is not None:
            raise self.error
        self.rebooted.append(BrokerId)
        return {}


def client_error(code: str, message: str, status: int) -> Exception:
    errors = importlib.import_module("botocore.exceptions")
    response = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}
    made: Exception = errors.ClientError(response, "DescribeBroker")
    return made


def botocore_error(name: str, **facts: object) -> Exception:
    made: Exception = getattr(importlib.import_module("botocore.exceptions"), name)(**facts)
    return made


DENIED = f"User: arn:aws:iam::123456789012:user/me is not authorized to perform: mq:DescribeBroker on resource: {ARN}"


@pytest.mark.parametrize(
    ("error", "kind", "says"),
    [
        (client_error("NotFoundException", "Can't find", 404), AwsRefused, f"there is no broker '{ID}' in eu-west-1"),
        (client_error("ForbiddenException", DENIED, 403), AwsRefused,
         'to your IAM policy: {"Effect": "Allow", "Action": "mq:DescribeBroker", "Resource": "' + ARN + '"}'),
        (client_error("AccessDeniedException", "no", 403), AwsRefused, f'"Resource": "arn:aws:mq:eu-west-1:*:broker:*:{ID}"'),
        (client_error("UnrecognizedClientException", "The security token is invalid.", 403), AwsRefused,
         "(UnrecognizedClientException): The security token is invalid"),
        (client_error("ForbiddenException", "The security token included in the request is expired", 403), AwsRefused,
         "token included in the request is expired"),
        (client_error("BadRequestException", "Broker id\nis malformed.", 400), AwsRefused, "Broker id is malformed"),
        (client_error("InternalServerErrorException", "oops", 500), AwsUnavailable, "failed (InternalServerErrorException): oops"),
        (client_error("TooManyRequestsException", "slow down", 429), AwsUnavailable, "try again"),
        (botocore_error("NoCredentialsError"), AwsRefused, "Unable to locate credentials; log in with `aws configure`"),
        (botocore_error("PartialCredentialsError", provider="env", cred_var="x"), AwsRefused, "log in with"),
        (botocore_error("EndpointConnectionError", endpoint_url="https://mq"), AwsUnavailable, "AWS did not answer in eu-west-1"),
        (botocore_error("ReadTimeoutError", endpoint_url="https://mq"), AwsUnavailable, "AWS did not answer"),
        (botocore_error("HTTPClientError", error="Invalid header value b'very-secret\\n'"), AwsUnavailable, "Invalid header value: there is a line feed in the credentials or in the session token; check"),
        (ValueError("Port out of range 0-65535"), AwsRefused, "AWS: Port out of range"),
        (FileNotFoundError(2, "No such file or directory", "/login"), AwsRefused, "No such file or directory: '/login'"),
        (botocore_error("UnauthorizedSSOTokenError"), AwsRefused, "SSO session associated with this profile has expired"),
    ],
)  # fmt: skip
def test_what_aws_says(error: Exception, kind: type[Exception], says: str) -> None:
    """Each error of boto3 is one line that says what to do; a missing right comes with the exact IAM statement."""
    mq = AmazonMq("eu-west-1", "aws", FakeClient({}, error))
    with pytest.raises(kind) as caught:
        mq.describe_broker(ID)
    assert says in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_reboot_needs_its_own_right() -> None:
    """The statement for a refused reboot names the reboot."""
    mq = AmazonMq("cn-north-1", "aws-cn", FakeClient({}, client_error("ForbiddenException", "no", 403)))
    with pytest.raises(AwsRefused, match=r'"mq:RebootBroker", "Resource": "arn:aws-cn:mq:cn-north-1:'):
        mq.reboot_broker(ID)


# The command. ---------------------------------------------------------------------------------------------------------

Run: TypeAlias = "Callable[..., tuple[int, str, str]]"


@pytest.fixture
def run(capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Runs ``switchgear activemq`` with arguments, away from this machine's AWS settings."""
    for name in ("AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")

    def call(*arguments: str) -> tuple[int, str, str]:
        code = main(["activemq", *arguments])
        out, err = capfdbinary.readouterr()
        return code, out.decode(), err.decode()

    return call


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, str], dict[str, object]]:
    """Answers of a fake Amazon MQ, by region and id; a test adds its own."""
    brokers: dict[tuple[str, str], dict[str, object]] = {}

    def fake(region: str | None) -> AmazonMq:
        here = region or "eu-west-1"
        return AmazonMq(here, "aws", FakeClient({i: each for (r, i), each in brokers.items() if r == here}))

    monkeypatch.setattr(commands, "amazon_mq", fake)
    return brokers


def test_the_uri_alone(run: Run, aws: dict[tuple[str, str], dict[str, object]]) -> None:
    """The command writes the URI and nothing else, for use in another command."""
    aws["eu-west-1", ID] = answer()
    assert run("endpoints", "--broker-id", ID) == (0, f"failover:(ssl://{host(1)}:8883,ssl://{host(2)}:8883)\n", "")


def test_a_replica(run: Run, aws: dict[tuple[str, str], dict[str, object]]) -> None:
    """With --replica the counterpart's endpoints follow, and JSON tells both brokers; without one it is refused."""
    other = "b-other"
    counterpart = {"DataReplicationCounterpart": {"BrokerId": other, "Region": "us-east-1"}}
    aws["eu-west-1", ID] = answer(DataReplicationMetadata={"DataReplicationRole": "PRIMARY", **counterpart})
    aws["us-east-1", other] = answer(BrokerId=other, BrokerInstances=[instance(1, "us-east-1")])
    code, out, _ = run("endpoints", "--broker-id", ID, "--replica", "--json")
    told = json.loads(out)
    assert code == 0
    assert told["uri"].endswith(f"ssl://{host(2)}:8883,ssl://{host(1, 'us-east-1')}:8883)")
    assert [broker["region"] for broker in told["brokers"]] == ["eu-west-1", "us-east-1"]
    aws["eu-west-1", ID] = answer()
    code, out, err = run("endpoints", "--broker-id", ID, "--replica")
    assert (code, out) == (2, "")
    assert "no counterpart in another region" in err


def test_without_boto3(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without boto3 the command says what to install."""
    monkeypatch.setitem(sys.modules, "boto3", None)
    code, out, err = run("endpoints", "--broker-id", ID, "--region", "eu-west-1")
    assert (code, out) == (2, "")
    assert err == "switchgear: this needs boto3: pip install 'switchgear-activemq[aws]'\n"


@pytest.mark.parametrize(
    ("arguments", "environment", "says"),
    [
        ((), {}, "no region; give --region, or set AWS_REGION"),
        (("--region", "a b"), {}, "doesn't match a supported format"),
        (("--region", "eu-west-1"), {}, "Unable to locate credentials; log in with"),
        (("--region", "eu-west-1"), {"AWS_PROFILE": "nobody"}, "The config profile (nobody) could not be found"),
    ],
)
def test_no_way_to_aws(
    run: Run, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], environment: dict[str, str], says: str
) -> None:
    """Without a region, a profile or credentials the real boto3 is one line and exit code 2."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    code, out, err = run("endpoints", "--broker-id", ID, *arguments)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert says in err


@pytest.fixture
def moto_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Amazon MQ's API played by moto's server on loopback, where boto3 looks for it."""
    server = importlib.import_module("moto.server").ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL_MQ", f"http://{host}:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    yield f"http://{host}:{port}"
    server.stop()


def test_against_moto(run: Run, moto_server: str) -> None:
    """Over HTTP a broker that is not there is refused, and one that is there has dummies for endpoints; it reboots."""
    client = importlib.import_module("boto3").client("mq", region_name="eu-west-1")
    broker = {
        "BrokerName": "press", "DeploymentMode": "ACTIVE_STANDBY_MULTI_AZ", "EngineType": "ACTIVEMQ",
        "EngineVersion": "5.19", "HostInstanceType": "mq.m5.large", "PubliclyAccessible": False,
        "AutoMinorVersionUpgrade": True, "Users": [],
    }  # fmt: skip
    made = client.create_broker(**broker)["BrokerId"]
    code, out, err = run("endpoints", "--broker-id", ID, "--region", "eu-west-1")
    assert (code, out) == (2, "")
    assert err == f"switchgear: there is no broker '{ID}' in eu-west-1; check the id and --region\n"
    code, out, err = run("endpoints", "--broker-id", made, "--region", "eu-west-1")
    assert (code, out) == (2, "")
    assert "is this an emulator of AWS?" in err
    amazon_mq("eu-west-1").reboot_broker(made)


def test_nobody_answers(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """An API that refuses connections is one line and exit code 1: it may answer later."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_MQ", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    code, out, err = run("endpoints", "--broker-id", ID, "--region", "eu-west-1")
    assert (code, out, len(err.splitlines())) == (1, "", 1)
    assert "AWS did not answer in eu-west-1" in err
