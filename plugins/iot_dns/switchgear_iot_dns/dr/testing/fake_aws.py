"""The AWS of a test, at one address for every service and region. Listens on loopback, with threads.

What moto has, moto answers (Route 53, IoT, ACM). In front of it stands what moto lacks: the compare-and-swap of
ChangeResourceRecordSets, changes that stay PENDING, protections, accelerated recovery, quotas, the fleet index, and
iot-data's DeleteConnection and GetConnection. And it fails on demand.

Which service and which region a request is for stands in its signature.
"""

from __future__ import annotations

import http.client
import importlib
import json
import logging
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import unquote, urlsplit

from attrs import define, field

from switchgear_iot_dns.dr.testing import batches
from switchgear_iot_dns.dr.testing.exchanges import Answer, Fault, Request, Seen, error

if TYPE_CHECKING:
    from collections.abc import Callable

    from switchgear_iot_dns.dr.testing.fleets import Fleet

_SCOPE: Final = re.compile(r"Credential=[^/]+/\d{8}/(?P<region>[^/]+)/(?P<service>[^/]+)/aws4_request")
_LOG: Final = logging.getLogger("werkzeug")


@define(eq=False)
class FakeAws:
    """An AWS at ``url``, until `close`.

    Attributes:
        fleets: Who is connected, by region.
        quotas: Values of Service Quotas by region and name; a region that is missing has no such service.
        index: Client ids in the fleet index by region.
        protected: Names that Route 53 protects; None: this account has no protections.
        recovery: The status of accelerated recovery; None: GetHostedZone does not tell.
        pending: Seconds for which a change stays PENDING; infinite: for ever.
        disconnects_per_second: What DeleteConnection takes in any second and region; beyond it throttles.
        on_change: Called with the changes of each batch that was carried out.
        seen: Every request, in order.
    """

    fleets: dict[str, Fleet] = field(factory=dict)
    quotas: dict[str, dict[str, float]] = field(factory=dict)
    index: dict[str, list[str]] = field(factory=dict)
    protected: set[str] | None = None
    recovery: str | None = None
    pending: float = 0.0
    disconnects_per_second: float | None = None
    on_change: Callable[[list[batches.Change]], None] = lambda _: None
    seen: list[Seen] = field(factory=list)
    _faults: list[Fault] = field(factory=list, init=False)
    _changed_at: dict[str, float] = field(factory=dict, init=False)
    _clients: dict[tuple[str, str], Any] = field(factory=dict, init=False)
    _took: dict[str, list[float]] = field(factory=dict, init=False)
    _lock: threading.RLock = field(factory=threading.RLock, init=False)
    _moto: Any = field(init=False)
    _server: Any = field(init=False)
    _stop: threading.Event = field(factory=threading.Event, init=False)

    def __attrs_post_init__(self) -> None:
        self._log_level = _LOG.level
        _LOG.setLevel(logging.WARNING)  # moto's server has a line for each request
        self._moto = importlib.import_module("moto.server").ThreadedMotoServer("127.0.0.1", 0, verbose=False)
        self._moto.start()
        fake = self

        class Handler(_Handler):
            aws = fake

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), name="switchgear-fake-aws")
        self._thread.start()
        self.reset()

    _thread: threading.Thread = field(init=False)
    _log_level: int = field(init=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def url(self) -> str:
        """Where it answers, for ``AWS_ENDPOINT_URL`` and as an endpoint of iot-data."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def client(self, service: str, region: str = "us-east-1") -> Any:
        """A boto3 client that talks to moto directly: to set the scene and to look behind it."""
        with self._lock:
            if (service, region) not in self._clients:
                host, port = self._moto.get_host_and_port()
                self._clients[service, region] = importlib.import_module("boto3").client(
                    service,
                    region_name=region,
                    endpoint_url=f"http://{host}:{port}",
                    aws_access_key_id="testing",
                    aws_secret_access_key="testing",  # noqa: S106 - moto takes any
                )
            return self._clients[service, region]

    def reset(self) -> None:
        """Forget everything."""
        with self._lock:
            host, port = self._moto.get_host_and_port()
            connection = http.client.HTTPConnection(host, port, timeout=10)
            connection.request("POST", "/moto-api/reset")
            connection.getresponse().read()
            connection.close()
            for each in (self.fleets, self.quotas, self.index, self.seen, self._faults, self._changed_at, self._took):
                each.clear()
            self.protected = self.recovery = self.disconnects_per_second = None
            self.pending = 0.0
            self.on_change = lambda _: None

    def close(self) -> None:
        """Answer no more."""
        self._stop.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._moto.stop()
        _LOG.setLevel(self._log_level)

    # Faults

    def fail(
        self,
        service: str,
        code: str,
        status: int,
        *,
        what: str = "",
        region: str | None = None,
        times: int | None = None,
        message: str = "on demand",
    ) -> None:
        """Answer requests of *service* whose method and path match *what* with an error, *times* times."""
        answer = error(service, code, status, message)
        self._arm(service, region, what, lambda _seen, _go: answer, times)

    def kill(self, region: str, *services: str) -> None:
        """Close the connection of every request for these services in *region*, as a dead region does at best."""
        for service in services:
            self._arm(service, region, "", lambda _seen, _go: None, None)

    def hang(self, service: str, *, what: str = "", region: str | None = None, times: int | None = None) -> None:
        """Never answer such requests."""

        def wait(_seen: Seen, _go: Callable[[], Answer]) -> None:
            self._stop.wait()

        self._arm(service, region, what, wait, times)

    def lose(self, service: str, *, what: str = "", times: int | None = 1) -> None:
        """Carry such requests out, and close the connection instead of answering."""

        def lose(_seen: Seen, go: Callable[[], Answer]) -> None:
            go()

        self._arm(service, None, what, lose, times)

    def distort(
        self, service: str, change: Callable[[bytes], bytes], *, what: str = "", times: int | None = None
    ) -> None:
        """Carry such requests out, and *change* the bodies of the answers, as a proxy in between may."""

        def distort(_seen: Seen, go: Callable[[], Answer]) -> Answer:
            told = go()
            return Answer(told.status, change(told.body), told.kind, told.headers)

        self._arm(service, None, what, distort, times)

    def before(self, service: str, do: Callable[[], object], *, what: str = "") -> None:
        """Call *do* once, before the first such request is answered."""

        def act(_seen: Seen, go: Callable[[], Answer]) -> Answer:
            do()
            return go()

        self._arm(service, None, what, act, 1)

    def lift(self) -> None:
        """End all faults."""
        with self._lock:
            self._faults.clear()

    def count(self, service: str, what: str = "") -> int:
        """How many requests of *service* matched *what*."""
        return sum(each.service == service and re.search(what, each.what) is not None for each in list(self.seen))

    def _arm(self, service: str, region: str | None, what: str, act: Any, times: int | None) -> None:
        with self._lock:
            self._faults.append(Fault(service, region, re.compile(what), act, times))

    # Answers

    def answer(self, seen: Seen, request: Request) -> Answer | None:
        """What *seen* gets; None closes the connection."""
        with self._lock:
            self.seen.append(seen)
            fault = next((each for each in self._faults if each.strikes(seen)), None)

        def go() -> Answer:
            return self._own(seen, request) or self._forward(request)

        return go() if fault is None else fault.act(seen, go)

    def _own(self, seen: Seen, request: Request) -> Answer | None:
        """The answer to what moto lacks; None for what it has."""
        path = urlsplit(request.path).path
        if seen.service == "iotdata":
            return self._connection(seen.region, request)
        if seen.service == "servicequotas":
            return self._quotas(seen.region)
        if seen.service == "iot" and path == "/indices/search":
            return self._search(seen.region, json.loads(request.body))
        if seen.service != "route53":
            return None
        if path.endswith(("/rrset", "/rrset/")):
            return self._change(path, request) if request.method == "POST" else None
        if path.endswith("/rrsetprotection"):
            return self._protections()
        if "/change/" in path:
            return self._pending(path.rpartition("/")[2])
        if self.recovery is not None and request.method == "GET" and re.fullmatch(r".*/hostedzone/[A-Z0-9]+", path):
            answer = self._forward(request)
            features = f"<Features><AcceleratedRecoveryStatus>{self.recovery}</AcceleratedRecoveryStatus></Features>"
            body = answer.body.decode().replace("</HostedZone>", f"{features}</HostedZone>", 1)
            return Answer(answer.status, body.encode(), answer.kind)
        return None

    def _connection(self, region: str, request: Request) -> Answer:
        split = urlsplit(request.path)
        client_id = unquote(split.path.removeprefix("/connections/"))
        fleet = self.fleets.get(region)
        if fleet is None or not split.path.startswith("/connections/"):
            return error("iotdata", "InternalFailureException", 500, f"there is no fleet in {region}")
        if client_id.startswith("$") or len(client_id) > 128:
            return error("iotdata", "InvalidRequestException", 400, "invalid client id")
        if request.method == "DELETE":
            if self._is_too_fast(region):
                return error("iotdata", "ThrottlingException", 429, "too fast")
            if not fleet.end(client_id):
                return error("iotdata", "ResourceNotFoundException", 404, "no such connection")
            return Answer(200, b"")
        since = fleet.since(client_id)
        if since is None:
            return error("iotdata", "ResourceNotFoundException", 404, "no such connection")
        facts = {"connected": True, "clientId": client_id, "connectedSince": int(since * 1000)}
        return Answer(200, json.dumps(facts).encode())

    def _is_too_fast(self, region: str) -> bool:
        if self.disconnects_per_second is None:
            return False
        with self._lock:
            now = time.monotonic()
            took = self._took.setdefault(region, [])
            took[:] = [at for at in took if at > now - 1.0]
            if len(took) >= self.disconnects_per_second:
                return True
            took.append(now)
            return False

    def _quotas(self, region: str) -> Answer:
        if region not in self.quotas:
            return error("servicequotas", "NoSuchResourceException", 400, "no such service")
        told = [{"QuotaName": name, "Value": value} for name, value in self.quotas[region].items()]
        return Answer(200, json.dumps({"Quotas": told}).encode(), "application/x-amz-json-1.1")

    def _search(self, region: str, wanted: dict[str, Any]) -> Answer:
        found, size = self.index.get(region, []), int(wanted.get("maxResults", 100))
        start = int(wanted.get("nextToken") or 0)
        things = [{"thingName": each, "connectivity": {"connected": True}} for each in found[start : start + size]]
        more = {"nextToken": str(start + size)} if start + size < len(found) else {}
        return Answer(200, json.dumps({"things": things, **more}).encode())

    def _change(self, path: str, request: Request) -> Answer:
        with self._lock:
            zone = path.split("/")[3]
            try:
                changes = batches.parse(request.body)
                batches.check(changes, batches.present(self.client("route53"), zone), self.protected or set())
            except batches.Refused as refused:
                return error("route53", "InvalidChangeBatch", 400, str(refused))
            # moto refuses to create what it has ever seen created; the batch is checked, so that an upsert is the same.
            body = request.body.replace(b"<Action>CREATE<", b"<Action>UPSERT<")
            headers = tuple(each for each in request.headers if each[0].lower() != "content-length")
            answer = self._forward(Request(request.method, request.path, body, headers))
            if answer.status == 200:
                change = re.search(rb"<Id>/change/([^<]+)</Id>", answer.body)
                assert change is not None
                self._changed_at[change[1].decode()] = time.monotonic()
                self.on_change(changes)
            return answer

    def _pending(self, change: str) -> Answer:
        is_pending = time.monotonic() - self._changed_at.get(change, 0.0) < self.pending
        body = (
            '<?xml version="1.0"?><GetChangeResponse xmlns="https://route53.amazonaws.com/doc/2013-04-01/"><ChangeInfo>'
            f"<Id>/change/{change}</Id><Status>{'PENDING' if is_pending else 'INSYNC'}</Status>"
            "<SubmittedAt>2026-11-22T08:00:00Z</SubmittedAt></ChangeInfo></GetChangeResponse>"
        )
        return Answer(200, body.encode(), "text/xml")

    def _protections(self) -> Answer:
        if self.protected is None:
            return error("route53", "AccessDenied", 403, "not authorized")
        each = "".join(
            "<ResourceRecordSetProtection>"
            f"<RecordName>{name}.</RecordName><RecordType>CNAME</RecordType></ResourceRecordSetProtection>"
            for name in sorted(self.protected)
        )
        body = (
            '<?xml version="1.0"?><ListResourceRecordSetProtectionsResponse '
            'xmlns="https://route53.amazonaws.com/doc/2013-04-01/"><ResourceRecordSetProtections>'
            f"{each}</ResourceRecordSetProtections></ListResourceRecordSetProtectionsResponse>"
        )
        return Answer(200, body.encode(), "text/xml")

    def _forward(self, request: Request) -> Answer:
        host, port = self._moto.get_host_and_port()
        connection = http.client.HTTPConnection(host, port, timeout=30)
        try:
            connection.request(request.method, request.path, request.body, dict(request.headers))
            told = connection.getresponse()
            headers = tuple((k, v) for k, v in told.getheaders() if k.lower().startswith("x-amz"))
            return Answer(told.status, told.read(), told.getheader("Content-Type", "text/xml"), headers)
        finally:
            connection.close()


class _Handler(BaseHTTPRequestHandler):
    """Hands every request to ``aws``."""

    aws: FakeAws
    protocol_version = "HTTP/1.1"
    timeout = 5
    wbufsize = -1  # one write for each answer: two would wait 40 ms for each other
    disable_nagle_algorithm = True

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except OSError:  # the client has gone, or went while it was answered
            self.close_connection = True

    def _do(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        scope = _SCOPE.search(self.headers.get("Authorization", ""))
        service, region = (scope["service"], scope["region"]) if scope else ("", "")
        if service == "iotdevicegateway":
            service = "iotdata"
        what = self.headers.get("X-Amz-Target") or f"{self.command} {self.path}"
        headers = tuple((k, v) for k, v in self.headers.items() if k.lower() not in {"host", "connection"})
        request = Request(self.command, self.path, body, headers)
        answer = self.aws.answer(Seen(service.replace("-", ""), region, what), request)
        if answer is None:
            self.close_connection = True
            return
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.kind)
        for name, value in answer.headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)

    do_GET = do_POST = do_DELETE = do_PUT = _do  # noqa: N815 - as http.server names them

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as http.server names it
        """Nothing."""
