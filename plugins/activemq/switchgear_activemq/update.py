"""The list of URIs that ``updateURIsURL`` names. Reads a file or a web page, bounded in time and size."""

from __future__ import annotations

import re
import urllib.error
import urllib.request
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from switchgear.errors import InvalidOption, redact

TIMEOUT: Final = 2.0
"""Seconds for a web page: the list is read before each sweep, and an outage is no time to wait for a slow server."""

LARGEST: Final = 65536
"""Bytes; a list of brokers is not longer."""


def read_list(where: str) -> list[str]:
    """The URIs in the file or at the address *where*, separated by commas or line ends; what follows a # is left out.

    Raises:
        InvalidOption: it cannot be read; the message says why.
    """
    scheme = urlsplit(where).scheme
    try:
        if scheme in {"http", "https"}:
            with urllib.request.urlopen(where, timeout=TIMEOUT) as answer:  # noqa: S310 - the scheme was just looked at
                raw = answer.read(LARGEST + 1)
        elif scheme in {"", "file"}:
            path = urllib.request.url2pathname(urlsplit(where).path) if scheme else where
            with Path(path).open("rb") as file:
                raw = file.read(LARGEST + 1)
        else:
            raise InvalidOption("updateURIsURL", f"{redact(where)!r} is neither a file nor an http(s) address")
        if len(raw) > LARGEST:
            raise InvalidOption("updateURIsURL", f"{redact(where)!r} has more than {LARGEST} bytes")
        text = raw.decode()
    except (OSError, ValueError) as error:
        if isinstance(error, InvalidOption):
            raise
        why = getattr(error, "reason", None) or getattr(error, "strerror", None) or type(error).__name__
        raise InvalidOption("updateURIsURL", f"{redact(where)!r} cannot be read: {why}") from error
    lines = (line.partition("#")[0] for line in text.splitlines())
    return [part.strip() for line in lines for part in re.split(r",(?![^(]*\))", line) if part.strip()]
