"""The options of the plugin, checked. Pure: no I/O.

They stand in ``plugin_options={"awscrt": {...}}``, or in the table ``plugins.awscrt`` of a profile.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import attrs
from attrs import field, frozen
from switchgear.checks import is_whole, show
from switchgear.errors import InvalidOption
from switchgear.secrets import Secret, as_secret, env, file

if TYPE_CHECKING:
    from collections.abc import Callable


def _refuse(name: str, value: object, valid: str) -> InvalidOption:
    return InvalidOption(name, f"plugin awscrt: {show(value)} is not {valid}")


def _flag(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise _refuse(name, value, "True or False")
    return value


def _text(name: str, value: object) -> str:
    if not isinstance(value, str) or not value or not value.isprintable():
        raise _refuse(name, value, "a text of at least one character")
    return value


def _port(name: str, value: object) -> int:
    if not is_whole(value) or not 1 <= value <= 65535:  # type: ignore[operator]  # it is an int here
        raise _refuse(name, value, "a port from 1 to 65535")
    assert isinstance(value, int)
    return value


def _secret(name: str, value: object) -> Secret:
    """A text, bytes, a `Secret`, a callable, or what stands for one in TOML; the value is not shown, it may be one."""
    if isinstance(value, Mapping) and len(value) == 1:
        ((kind, where),) = value.items()
        if kind in {"env", "file"} and isinstance(where, str):
            return env(where) if kind == "env" else file(where)
    elif isinstance(value, str | bytes | Secret) or callable(value):
        made = as_secret(value)
        assert made is not None
        return made
    why = 'plugin awscrt: it is no secret; give a text, switchgear.env("NAME") or switchgear.file("path")'
    raise InvalidOption(name, why)


@frozen(kw_only=True)
class Proxy:
    """An HTTP proxy that connects us (RFC 9110, 9.3.6). It resolves the broker's name, unless an address is pinned.

    Attributes:
        host: Its name or address.
        port: Its port.
        username: For basic authentication.
        password: For the same; hidden.
    """

    host: str
    port: int
    username: str | None = None
    password: Secret | None = field(default=None, repr=False)


@frozen(kw_only=True)
class Signing:
    """WebSockets signed with AWS's Signature Version 4, with the credentials that the SDK's default chain finds.

    Attributes:
        region: AWS region, such as ``eu-west-1``.
        profile: Name of a profile in ``~/.aws``; None: environment, profile ``default``, container or instance role.
    """

    region: str
    profile: str | None = None


@frozen(kw_only=True)
class Authorizer:
    """An AWS IoT custom authorizer. The transport's ``username`` and ``password`` are handed to it.

    Attributes:
        name: Of the authorizer; None: the endpoint's default.
        token_key: Name of the token, when signing is on.
        token: The token; hidden.
        signature: The token's signature, in base64; hidden.
    """

    name: str | None = None
    token_key: str | None = None
    token: Secret | None = field(default=None, repr=False)
    signature: Secret | None = field(default=None, repr=False)


@frozen(kw_only=True)
class Options:
    """All options of the plugin.

    Attributes:
        port_443_alpn: Whether ``mqtts://`` on port 443 offers ``x-amzn-mqtt-ca``, as AWS IoT wants it there; ``alpn`` in
            the TLS settings replaces it.
        sigv4: Sign the WebSocket with AWS credentials: a table with ``region`` and, if you like, ``profile``.
        custom_authorizer: A table with ``name``, ``token_key``, ``token``, ``signature``, each where it is needed.
        http_proxy: A table with ``host``, ``port``, and, if you like, ``username`` and ``password``.
    """

    port_443_alpn: bool = True
    sigv4: Signing | None = None
    custom_authorizer: Authorizer | None = None
    http_proxy: Proxy | None = None

    @property
    def is_for_aws(self) -> bool:
        """Whether the SDK's builders of AWS IoT make the client."""
        return self.sigv4 is not None or self.custom_authorizer is not None


_Reader = "Callable[[str, object], Any]"
_TABLES: Final[dict[str, tuple[type, dict[str, Callable[[str, object], Any]], tuple[str, ...]]]] = {
    # option: (class, its keys and how each is read, keys that must be there)
    "sigv4": (Signing, {"region": _text, "profile": _text}, ("region",)),
    "custom_authorizer": (
        Authorizer,
        {"name": _text, "token_key": _text, "token": _secret, "signature": _secret},
        (),
    ),
    "http_proxy": (
        Proxy,
        {"host": _text, "port": _port, "username": _text, "password": _secret},
        ("host", "port"),
    ),
}
_PLAIN: Final[dict[str, Callable[[str, object], Any]]] = {
    "port_443_alpn": _flag,
}


def read_options(given: Mapping[str, object]) -> Options:
    """The options, from what a profile or ``plugin_options`` says; None stands for the default.

    Raises:
        InvalidOption: an option is unknown, has an impossible value, or does not go with another one.
    """
    known = [each.name for each in attrs.fields(Options)]
    made: dict[str, Any] = {}
    for name, value in given.items():
        if name not in known:
            raise InvalidOption(name, "the plugin awscrt has no such option", valid=known)
        if value is not None:
            made[name] = _table(name, value) if name in _TABLES else _PLAIN[name](name, value)
    options = Options(**made)
    if options.sigv4 is not None and options.custom_authorizer is not None:
        why = "plugin awscrt: sigv4 is set too, and a connection has one way to sign in; leave one of them out"
        raise InvalidOption("custom_authorizer", why)
    proxy, authorizer = options.http_proxy, options.custom_authorizer
    if proxy is not None and proxy.password is not None and proxy.username is None:
        raise InvalidOption("http_proxy.password", "plugin awscrt: it needs http_proxy.username beside it")
    if authorizer is not None and len({authorizer.token is None, authorizer.token_key is None}) == 2:
        raise InvalidOption("custom_authorizer", "plugin awscrt: token and token_key go together")
    return options


def _table(name: str, value: object) -> object:
    cls, keys, needed = _TABLES[name]
    if isinstance(value, cls):
        return value
    if not isinstance(value, Mapping):
        raise _refuse(name, value, f"a table with {', '.join(keys)}")
    for key in value:
        if key not in keys:
            raise InvalidOption(f"{name}.{key}", "the plugin awscrt has no such option", valid=keys)
    for key in needed:
        if value.get(key) is None:
            raise InvalidOption(f"{name}.{key}", "plugin awscrt: it is needed")
    return cls(**{key: keys[key](f"{name}.{key}", item) for key, item in value.items() if item is not None})
