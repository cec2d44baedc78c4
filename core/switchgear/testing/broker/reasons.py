"""Reason codes of MQTT 5, the return codes of 3.1.1, and how they translate. Pure constants.

Source: MQTT 5.0, section 2.4; MQTT 3.1.1, table 3.1.
"""

from __future__ import annotations

from typing import Final

SUCCESS: Final = 0x00
DISCONNECT_WITH_WILL: Final = 0x04
NO_SUBSCRIPTION_EXISTED: Final = 0x11
UNSPECIFIED_ERROR: Final = 0x80
MALFORMED_PACKET: Final = 0x81
PROTOCOL_ERROR: Final = 0x82
UNSUPPORTED_VERSION: Final = 0x84
CLIENT_ID_NOT_VALID: Final = 0x85
BAD_CREDENTIALS: Final = 0x86
NOT_AUTHORIZED: Final = 0x87
SERVER_UNAVAILABLE: Final = 0x88
SERVER_BUSY: Final = 0x89
BANNED: Final = 0x8A
SERVER_SHUTTING_DOWN: Final = 0x8B
BAD_AUTHENTICATION_METHOD: Final = 0x8C
KEEP_ALIVE_TIMEOUT: Final = 0x8D
SESSION_TAKEN_OVER: Final = 0x8E
TOPIC_FILTER_INVALID: Final = 0x8F
PACKET_ID_NOT_FOUND: Final = 0x92
RECEIVE_MAXIMUM_EXCEEDED: Final = 0x93
TOPIC_ALIAS_INVALID: Final = 0x94
PACKET_TOO_LARGE: Final = 0x95
ADMINISTRATIVE_ACTION: Final = 0x98
USE_ANOTHER_SERVER: Final = 0x9C
SERVER_MOVED: Final = 0x9D

# The return codes of a 3.1.1 CONNACK, and the reason code of MQTT 5 that says the same.
_RETURN_CODES: Final = {
    1: UNSUPPORTED_VERSION,
    2: CLIENT_ID_NOT_VALID,
    3: SERVER_UNAVAILABLE,
    4: BAD_CREDENTIALS,
    5: NOT_AUTHORIZED,
}
_REASON_CODES: Final = {reason: code for code, reason in _RETURN_CODES.items()} | {BANNED: 5}


def connack_code(code: int, *, version: int) -> int:
    """The code that a CONNACK of *version* (4 or 5) carries for *code*, which may be of either version.

    What 3.1.1 has no word for becomes 3, "server unavailable".
    """
    if version == 5:
        return _RETURN_CODES.get(code, code)
    return code if code < UNSPECIFIED_ERROR else _REASON_CODES.get(code, 3)
