"""What can go wrong, each with one line that says what and the way out. Touches nothing.

    CertsError
        InvalidName         a name that no certificate may carry, or too many of them
        InvalidLifetime     days that cannot be, or beyond the issuer's end
        UnfitAuthority      no CA, expired, its key belongs to another, its name constraints forbid it
        UnfitRequest        a CSR with a bad signature, or one that asks for what it must not get
        UnfitKey            of a kind or size that is not taken here
        WrongPassphrase     wrong, missing, or given for a key that has none
        FileTrouble         a file or folder that cannot be read or written, or is half of a pair
        AlreadyThere        something else is in the place; only --force replaces it
        Unreachable         a live endpoint did not answer, or not with TLS
        Unavailable         an extra is not installed, or AWS refused

The command line turns every one of them into one line and exit code 2.
"""


class CertsError(Exception):
    """Base of everything that this distribution raises on purpose. Since: 0.1."""


class InvalidName(CertsError, ValueError):
    """A name that no certificate may carry, or too many of them."""


class InvalidLifetime(CertsError, ValueError):
    """Days that cannot be, or beyond the issuer's end."""


class UnfitAuthority(CertsError):
    """It is no CA, has expired, its key belongs to another, or its name constraints forbid what was asked."""


class UnfitRequest(CertsError):
    """A CSR with a bad signature, or one that asks for what it must not get."""


class UnfitKey(CertsError):
    """A key of a kind or size that is not taken here."""


class WrongPassphrase(CertsError):
    """The passphrase is wrong or missing, or was given for a key that has none."""


class FileTrouble(CertsError):
    """A file or folder cannot be read or written, is not what it should be, or is half of a pair."""


class AlreadyThere(CertsError):
    """Something else is in the place where this would go."""


class Unreachable(CertsError):
    """A live endpoint did not answer, or not with TLS."""


class Unavailable(CertsError):
    """An extra is not installed, or AWS refused."""
