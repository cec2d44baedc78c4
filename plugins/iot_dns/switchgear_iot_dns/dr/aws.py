"""Clients of AWS, bounded and with errors of ours. Opens connections through boto3 (extra ``dr``)."""

from __future__ import annotations

import importlib
import re
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from switchgear.secrets import in_one_line

from switchgear_iot_dns.dr import iam
from switchgear_iot_dns.dr.errors import AwsTrouble, MissingPermission, RegionSwitchError

if TYPE_CHECKING:
    from collections.abc import Callable

GLOBAL: Final = "us-east-1"
"""The region of Route 53's control plane, and of its signatures."""

SILENCE: Final = 30.0
"""Seconds for which a service that did not answer is not asked again by who would give it up soon."""

_BROKEN: Final = (ValueError, TypeError, KeyError, AttributeError, OSError)
"""What botocore lets through of answers that it did not expect, and of addresses and files that it cannot use."""

_DENIED: Final = frozenset(
    {"AccessDenied", "AccessDeniedException", "ForbiddenException", "UnauthorizedException", "UnauthorizedOperation"}
)


class Aws:
    """The clients of one run, made when they are first needed; may be used from any thread.

    *request* is the seconds for connecting and for each answer. Throttled and failed requests are repeated by botocore,
    those of iot-data in its adaptive mode (measured 2026-11-21, 121 ids where 10 a second are taken: no id lost,
    9 throttles; standard mode: 164).
    """

    def __init__(self, *, zone: str, profile: str | None = None, request: float = 10.0, workers: int = 16) -> None:
        try:
            boto3 = importlib.import_module("boto3")
            self._errors = importlib.import_module("botocore.exceptions")
            config = importlib.import_module("botocore.config").Config
        except ImportError as error:
            raise RegionSwitchError("this needs boto3: pip install 'switchgear-iot-dns[dr]'") from error
        self._zone = zone
        self._clients: dict[tuple[str, str, str | None, bool], Any] = {}
        self._silent: dict[tuple[str, str], tuple[float, str]] = {}
        self._lock = threading.Lock()

        def bounded(mode: str, attempts: int) -> Any:
            return config(
                connect_timeout=request,
                read_timeout=request,
                retries={"mode": mode, "total_max_attempts": attempts},
                max_pool_connections=workers,
            )

        # A region that does not answer is left soon; what matters is repeated. Adaptive is for many requests: of few it
        # takes the rate that it saw for the limit, and waits seconds between them (seen 2026-11-22).
        self._brisk, self._patient = bounded("standard", 2), bounded("standard", 5)
        self._adaptive = bounded("adaptive", 10)
        try:
            self._session = boto3.session.Session(profile_name=profile)
            self._unreadable = (importlib.import_module("botocore.parsers").ResponseParserError, *_BROKEN)
        except self._errors.BotoCoreError as error:
            raise RegionSwitchError(f"AWS: {in_one_line(error)}") from error

    def client(
        self, service: str, region: str = GLOBAL, *, endpoint: str | None = None, is_patient: bool = False
    ) -> Any:
        """The client of *service* in *region*; *endpoint* is a host name or a URL.

        One that *is_patient* repeats what was throttled or failed for long; others give a region up soon.
        """
        key = (service, region, endpoint, is_patient)
        with self._lock:
            if key not in self._clients:
                url = None if endpoint is None else endpoint if "://" in endpoint else f"https://{endpoint}"
                try:
                    self._clients[key] = self._session.client(
                        service,
                        region_name=region,
                        endpoint_url=url,
                        config=self._config(service) if is_patient else self._brisk,
                    )
                except (self._errors.BotoCoreError, ValueError, OSError) as error:  # OSError: of a credential_process
                    raise RegionSwitchError(f"AWS {service} in {region}: {in_one_line(error)}") from error
            return self._clients[key]

    def _config(self, service: str) -> Any:
        return self._adaptive if service == "iot-data" else self._patient

    def has(self, service: str, method: str, *, region: str = GLOBAL) -> bool:
        """Whether this boto3 knows the method."""
        return hasattr(self.client(service, region), method)

    def call(self, client: Any, method: str, /, **request: Any) -> Any:
        """What ``client.method(**request)`` answers.

        Raises:
            MissingPermission: it was denied.
            AwsTrouble: it was refused otherwise, not answered in time, or answered with something else.
            RegionSwitchError: there are no credentials, or this boto3 is too old to know the method.
        """
        service, region = client.meta.service_model.service_name, client.meta.region_name
        function: Callable[..., Any] | None = getattr(client, method, None)
        operation = "".join(part.title() for part in method.split("_"))
        if function is None:
            raise RegionSwitchError(
                f"this boto3 has no {operation} of {service}: pip install --upgrade boto3 (1.40.6 or newer)"
            )
        where = f"{operation} of {service} in {region}"
        is_brisk = client.meta.config.retries == self._brisk.retries
        since, why = self._silent.get((service, region), (-SILENCE, ""))
        if is_brisk and time.monotonic() - since < SILENCE:
            raise AwsTrouble(where, f"it did not answer a moment ago: {why}")
        try:
            told = function(**request)
        except self._errors.ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            if code in _DENIED or (status == 403 and code in {"", "403", "Forbidden"}):
                name = iam.action(service, operation)
                text = str(error.response.get("Error", {}).get("Message", ""))
                statement = iam.statement(name, zone=self._zone, region=region, account=_account(text))
                raise MissingPermission(name, statement) from error
            raise AwsTrouble(where, _message(error), code=code) from error
        except self._errors.NoCredentialsError as error:
            raise RegionSwitchError(
                "AWS: no credentials; set AWS_PROFILE or AWS_ACCESS_KEY_ID, or give --profile"
            ) from error
        except self._errors.BotoCoreError as error:
            self._silent[service, region] = (time.monotonic(), in_one_line(error))
            raise AwsTrouble(where, in_one_line(error)) from error
        except self._unreadable as error:  # half an answer, or a page of somebody between
            raise AwsTrouble(where, f"its answer cannot be read: {in_one_line(error)[:200]}") from error
        shape = client.meta.service_model.operation_model(operation).output_shape
        if missing := [name for name in (shape.required_members if shape is not None else ()) if name not in told]:
            raise AwsTrouble(where, f"its answer has no {missing[0]}; does a proxy answer in its place?")
        return told


def _account(text: str) -> str | None:
    found = re.search(r"arn:aws[\w-]*:\w*:[\w-]*:(\d{12}):", text)
    return found[1] if found else None


def _message(error: Any) -> str:
    told = error.response.get("Error", {})
    text = " ".join(str(told.get("Message") or "").split())
    if "<" in text and ">" in text:  # an error page instead of an error
        text = re.sub(r"<[^>]*>", " ", text)
        text = " ".join(text.split())[:200]
    return f"{told.get('Code')}: {text}" if text else str(told.get("Code"))
