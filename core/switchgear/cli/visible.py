"""Text from elsewhere, made fit for a terminal: what would control it is shown instead. Pure.

Brokers, proxies, certificates and messages may hold escape sequences; a terminal that is sent them changes its title, its
colours, what is read on it, and more.
"""

from __future__ import annotations

import re
from typing import Final

_CONTROLS: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""C0, DEL and C1 (ISO 6429), separators of lines, changes of direction (Unicode, UAX 9), and what no encoding can hold."""

_LEFT_BY_JSON: Final = re.compile("[\x7f-\x9f]")
"""The controls that JSON may hold as they are (RFC 8259, 7)."""


def visible(text: str, *, keeps: str = "") -> str:
    r"""*text* with its control characters, but those that *keeps* names, written as Python writes them: ``\x1b``."""
    return _CONTROLS.sub(lambda found: found[0] if found[0] in keeps else ascii(found[0])[1:-1], text)


def visible_payload(payload: bytes) -> bytes:
    r"""*payload* as a text for a terminal: its lines and tabs stay, and what is no UTF-8 is written as ``\xff``."""
    return visible(payload.decode(errors="backslashreplace"), keeps="\n\t").encode()


def escaped_in_json(text: str) -> str:
    """The JSON *text*, which means the same, without control characters."""
    return _LEFT_BY_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
