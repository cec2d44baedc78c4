"""The configuration of one ActiveMQ Classic broker of a pair."""

from collections.abc import Mapping
from pathlib import Path
from xml.sax.saxutils import quoteattr  # it only writes

from attrs import frozen

from switchgear.testing.processes.ports import HOST
from switchgear.testing.processes.tls_files import TlsFiles

_KEY_STORE_PASSWORD = "switchgear"  # noqa: S105 - of a throw-away file beside the key it holds
_GROUPS = ("admin", "publisher", "subscriber")


@frozen(kw_only=True)
class BrokerFiles:
    """Where one broker of a pair keeps its things, and the ports it has."""

    folder: Path
    shared: Path
    port: int
    tls_port: int | None

    @property
    def xml(self) -> Path:
        """The broker's configuration."""
        return self.folder / "broker.xml"

    @property
    def log4j(self) -> Path:
        """The settings of its log."""
        return self.folder / "log4j.properties"

    @property
    def log(self) -> Path:
        """Its log, which the ledger is read from."""
        return self.folder / "activemq.log"

    @property
    def output(self) -> Path:
        """What the process prints."""
        return self.folder / "activemq.out"


def write_files(
    files: BrokerFiles,
    *,
    users: Mapping[str, str],
    lock_interval_ms: int,
    tls: TlsFiles | None,
    mqtt_jar: Path,
    subscribers_create: bool,
    advisory_entry: bool,
) -> None:
    """Write everything that the broker needs to start, over what was there; its log and the store stay."""
    (files.folder / "lib").mkdir(parents=True, exist_ok=True)
    files.shared.mkdir(exist_ok=True)
    jar = files.folder / "lib" / mqtt_jar.name
    if not jar.exists():
        jar.symlink_to(mqtt_jar.resolve())
    files.log4j.write_text(_log4j(files.log), encoding="ascii")
    ssl_context = ""
    if tls is not None:
        key_store = files.folder / "broker.p12"
        key_store.write_bytes(_key_store(tls))
        ssl_context = (
            f"<sslContext><sslContext keyStore={quoteattr(key_store.as_uri())} keyStoreType='PKCS12'"
            f" keyStorePassword='{_KEY_STORE_PASSWORD}'/></sslContext>"
        )
    files.xml.write_text(
        _xml(
            files,
            users,
            lock_interval_ms,
            ssl_context,
            subscribers_create=subscribers_create,
            advisory_entry=advisory_entry,
        ),
        encoding="utf-8",
    )


def _groups(user: str) -> str:
    """The groups of *user*: the one of the same name, and for any other name both to publish and to subscribe."""
    return user if user in _GROUPS else "publisher,subscriber"


def _xml(
    files: BrokerFiles,
    users: Mapping[str, str],
    lock_interval_ms: int,
    ssl_context: str,
    *,
    subscribers_create: bool,
    advisory_entry: bool,
) -> str:
    everybody = ",".join(_GROUPS)
    creators = everybody if subscribers_create else "admin,publisher"
    user_lines = "".join(
        f"<authenticationUser username={quoteattr(name)} password={quoteattr(password)} groups='{_groups(name)}'/>"
        for name, password in users.items()
    )
    # `trace` makes the connector log each packet, which the ledger is read from.
    connectors = f"<transportConnector name='mqtt' uri='mqtt://{HOST}:{files.port}?trace=true'/>"
    if files.tls_port is not None:
        connectors += f"<transportConnector name='mqtts' uri='mqtt+nio+ssl://{HOST}:{files.tls_port}?trace=true'/>"
    # Plugins wrap each other in this order: the logging one stands innermost, so it sees what was authorized.
    # Without the advisory entry, the first client that may not create topics is refused after every start (CONNACK 5).
    advisory = "ActiveMQ.Advisory.>"
    entries = f"<authorizationEntry topic='>' read='admin,subscriber' write='admin,publisher' admin='{creators}'/>"
    if advisory_entry:
        entries += (
            f"<authorizationEntry topic='{advisory}' read='{everybody}' write='{everybody}' admin='{everybody}'/>"
        )
    return f"""<beans xmlns="http://www.springframework.org/schema/beans"
  xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:schemaLocation="
  http://www.springframework.org/schema/beans http://www.springframework.org/schema/beans/spring-beans.xsd
  http://activemq.apache.org/schema/core http://activemq.apache.org/schema/core/activemq-core.xsd">
<broker xmlns="http://activemq.apache.org/schema/core" brokerName="pair" useJmx="false"
  dataDirectory={quoteattr(str(files.folder / "data"))}>
 <persistenceAdapter>
  <kahaDB directory={quoteattr(str(files.shared))} lockKeepAlivePeriod="{lock_interval_ms}">
   <locker><shared-file-locker lockAcquireSleepInterval="{lock_interval_ms}"/></locker>
  </kahaDB>
 </persistenceAdapter>
 <plugins>
  <loggingBrokerPlugin logProducerEvents="true" logConnectionEvents="true"/>
  <simpleAuthenticationPlugin><users>{user_lines}</users></simpleAuthenticationPlugin>
  <authorizationPlugin><map><authorizationMap><authorizationEntries>
   {entries}
  </authorizationEntries></authorizationMap></map></authorizationPlugin>
 </plugins>
 {ssl_context}
 <transportConnectors>{connectors}</transportConnectors>
</broker>
</beans>
"""


def _log4j(log: Path) -> str:
    """Settings for log4j 1.2, which Debian's package brings; each line goes to the operating system at once."""
    path = str(log).replace("\\", "\\\\").encode("ascii", "backslashreplace").decode("ascii")
    return f"""log4j.rootLogger=INFO, file
log4j.appender.file=org.apache.log4j.FileAppender
log4j.appender.file.File={path}
log4j.appender.file.Append=true
log4j.appender.file.ImmediateFlush=true
log4j.appender.file.Encoding=UTF-8
log4j.appender.file.layout=org.apache.log4j.PatternLayout
log4j.appender.file.layout.ConversionPattern=%d{{yyyy-MM-dd'T'HH:mm:ss.SSS}}Z [%t] %c{{1}} %m%n
log4j.logger.org.apache.activemq.transport.mqtt.MQTTIO=TRACE
log4j.logger.org.apache.activemq.transport.mqtt.MQTTProtocolConverter=TRACE
"""


def _key_store(tls: TlsFiles) -> bytes:
    """The broker's certificate and key as PKCS 12, which is what Java reads."""
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, load_pem_private_key, pkcs12

    key = load_pem_private_key(tls.key_file.read_bytes(), None)
    if not isinstance(key, EllipticCurvePrivateKey | RSAPrivateKey):
        raise TypeError(f"{tls.key_file} holds neither an EC nor an RSA key")
    leaf, *others = x509.load_pem_x509_certificates(tls.cert_file.read_bytes())
    return pkcs12.serialize_key_and_certificates(
        b"broker",
        key,
        leaf,
        others,
        BestAvailableEncryption(_KEY_STORE_PASSWORD.encode()),
    )
