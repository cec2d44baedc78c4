"""Amazon MQ's API through boto3, which is asked for only when it is needed; its errors in one line each. Does I/O."""

from __future__ import annotations

import importlib
import json
import re
from typing import TYPE_CHECKING, Any, Final

from attrs import frozen
from switchgear.errors import ConfigurationError, SwitchgearError
from switchgear.secrets import in_one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

CONNECT_S: Final = 5
READ_S: Final = 20
"""Seconds. Amazon MQ answers within one; boto3 would wait 60 for each."""


class AwsRefused(ConfigurationError):
    """AWS cannot be asked, or said no: no boto3, no credentials, no permission, no such broker."""


class AwsUnavailable(SwitchgearError):
    """AWS was not reached, or failed: try again."""


@frozen
class AmazonMq:
    """Amazon MQ in one region.

    Attributes:
        region: The region's name.
        partition: ``aws``, ``aws-cn`` or ``aws-us-gov``.
    """

    region: str
    partition: str
    _client: Any

    def describe_broker(self, broker_id: str) -> Mapping[str, Any]:
        """What Amazon MQ knows of the broker.

        Raises:
            AwsRefused: there is no such broker, or AWS says no.
            AwsUnavailable: AWS was not reached.
        """
        return self._ask("DescribeBroker", broker_id, self._client.describe_broker)

    def reboot_broker(self, broker_id: str) -> None:
        """Restart the broker: of a pair the active one first; returns at once. Raises as `describe_broker` does."""
        self._ask("RebootBroker", broker_id, self._client.reboot_broker)

    def _ask(self, action: str, broker_id: str, call: Callable[..., Any]) -> Mapping[str, Any]:
        errors = importlib.import_module("botocore.exceptions")
        try:
            answer: Mapping[str, Any] = call(BrokerId=broker_id)
        except errors.ClientError as error:
            raise self._translated(error.response, action, broker_id) from error
        except (errors.NoCredentialsError, errors.PartialCredentialsError, errors.CredentialRetrievalError) as error:
            raise AwsRefused(
                f"AWS: {_line(error)}; log in with `aws configure` or `aws sso login`, or set AWS_PROFILE"
            ) from error
        except (errors.ConnectionError, errors.HTTPClientError) as error:
            raise AwsUnavailable(
                f"AWS did not answer in {self.region}: {_line(error)}; check the region, and try again"
            ) from error
        except errors.BotoCoreError as error:  # an expired login, a broken configuration file, an impossible parameter
            raise AwsRefused(f"AWS: {_line(error)}") from error
        except (ValueError, OSError) as error:  # an impossible endpoint, a credential_process that is missing
            raise AwsRefused(f"AWS: {_line(error)}") from error
        return answer

    def _translated(self, response: Mapping[str, Any], action: str, broker_id: str) -> SwitchgearError:
        code = str(response.get("Error", {}).get("Code", ""))
        said = _line(response.get("Error", {}).get("Message", ""))
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if code == "NotFoundException" or status == 404:
            return AwsRefused(f"there is no broker {broker_id!r} in {self.region}; check the id and --region")
        if code in {"ForbiddenException", "AccessDeniedException"} and "security token" not in said:
            found = re.search(r"arn:[\w-]+:mq:\S*broker:[^\s,;]*[^\s,;.]", said)
            arn = found[0] if found else f"arn:{self.partition}:mq:{self.region}:*:broker:*:{broker_id}"
            statement = json.dumps({"Effect": "Allow", "Action": f"mq:{action}", "Resource": arn})
            return AwsRefused(f"AWS does not allow mq:{action}; the statement to add to your IAM policy: {statement}")
        if status == 429 or status >= 500 or code in {"TooManyRequestsException", "ThrottlingException"}:
            return AwsUnavailable(f"AWS: mq:{action} failed ({code or status}): {said}; try again")
        return AwsRefused(f"AWS refused mq:{action} for the broker {broker_id!r} ({code or status}): {said}")


def amazon_mq(region: str | None) -> AmazonMq:
    """Amazon MQ in *region*; None: the one of the environment or the profile.

    Raises:
        AwsRefused: boto3 is not installed, or there is no region.
    """
    try:
        boto3, errors = importlib.import_module("boto3"), importlib.import_module("botocore.exceptions")
        config = importlib.import_module("botocore.config").Config(
            connect_timeout=CONNECT_S, read_timeout=READ_S, retries={"mode": "standard", "max_attempts": 3}
        )
    except ImportError as error:
        raise AwsRefused("this needs boto3: pip install 'switchgear-activemq[aws]'") from error
    try:
        session = boto3.session.Session(region_name=region)
        client = session.client("mq", config=config)
        name = str(client.meta.region_name)
        return AmazonMq(name, str(client.meta.partition), client)
    except errors.NoRegionError as error:
        raise AwsRefused("AWS: no region; give --region, or set AWS_REGION") from error
    except (errors.BotoCoreError, ValueError) as error:  # ValueError: a region that is no host name
        raise AwsRefused(f"AWS: {_line(error)}") from error


def _line(text: object) -> str:
    return in_one_line(text).rstrip(".")
