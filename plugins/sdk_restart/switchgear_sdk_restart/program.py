"""What this process was started as, and whether that can be started again. Reads the interpreter's facts and /proc."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from attrs import frozen

if TYPE_CHECKING:
    from collections.abc import Sequence

RUNNERS: Final = frozenset(
    {"pytest", "py.test", "unittest", "ipython", "ipython3", "ipykernel", "ipykernel_launcher", "jupyter"}
)
"""Programs that run somebody else's code in their process: to start them again starts all of that again."""

FORKED: Final = 0x40
"""PF_FORKNOEXEC in the flags of /proc/PID/stat: a fork that has not called exec. Source: Linux, include/linux/sched.h."""


@frozen
class Program:
    """What an interpreter was told to run: a ``script``, a ``module``, a ``command``, or what comes on ``stdin``."""

    kind: str
    name: str = ""


def read_arguments(arguments: Sequence[str]) -> Program:
    """The program in an interpreter's *arguments*, without its own name. Source: ``python --help``, 3.11 to 3.13."""
    position = 0
    while position < len(arguments):
        argument = arguments[position]
        position += 1
        if argument == "-":
            break
        if argument.startswith("--"):
            position += argument == "--check-hash-based-pycs"
        elif not argument.startswith("-"):
            return Program("script", argument)
        else:
            letter, rest = _with_value(argument[1:])
            value = rest or (arguments[position] if position < len(arguments) else "")
            if letter in {"c", "m"}:
                return Program("command" if letter == "c" else "module", value)
            position += bool(letter) and not rest
    return Program("stdin")


def _with_value(letters: str) -> tuple[str, str]:
    """Of one argument's letters, as ``Im`` or ``Wdefault``: that which takes a value, and the value if it is here."""
    for i, letter in enumerate(letters):
        if letter in "cmWX":
            return letter, letters[i + 1 :]
    return "", ""


@frozen(kw_only=True)
class Facts:
    """What is known of this process; see `facts`.

    Attributes:
        arguments: ``sys.orig_argv``.
        executable: ``sys.executable``.
        directory: Where this plugin was imported; None: it is not there any more.
        main_file: Of the main module; a script's is absolute.
        first_path: The first entry of ``sys.path``: for ``-m`` the directory in which the interpreter was started.
        is_posix: Whether exec replaces a process in place.
        is_frozen: Whether it is an application that carries its interpreter.
        is_interactive: Whether somebody types.
        is_fork: Whether it is a fork, or a worker of multiprocessing.
        is_given_sockets: Whether systemd passed sockets to it (``LISTEN_FDS``).
    """

    arguments: tuple[str, ...]
    executable: str
    directory: str | None
    main_file: str | None
    first_path: str
    is_posix: bool
    is_frozen: bool
    is_interactive: bool
    is_fork: bool
    is_given_sockets: bool


def obstacle(known: Facts) -> str | None:
    """Why this process cannot be executed again; None: it can."""
    if not known.is_posix:
        return "this system does not replace a process in place"
    if not known.arguments or not known.executable:
        return "its interpreter does not know how it was started (sys.orig_argv): it is embedded in another program"
    if known.is_frozen:
        return "it is a frozen application, which unpacks itself when it starts"
    if not os.access(known.executable, os.X_OK):
        return f"its interpreter {known.executable} cannot be executed"
    if known.is_fork:
        return "it was forked by the program that was started (multiprocessing, gunicorn or the like), and is not it"
    if known.is_given_sockets:
        return "systemd gave it sockets (LISTEN_FDS), which would be closed"
    return _obstacle_of(read_arguments(known.arguments[1:]), known)


def _obstacle_of(program: Program, known: Facts) -> str | None:
    if program.kind == "stdin" or known.is_interactive:
        return "its program came from standard input or a terminal, and is not there to be read again"
    name = Path(program.name).name.removesuffix(".py") if program.kind == "script" else program.name.partition(".")[0]
    if program.kind != "command" and name.lower() in RUNNERS:
        return f"{name} runs other people's code in this process, and would start all of it again"
    if known.directory is None:
        return "the directory in which it was started is gone"
    if program.kind == "script" and not Path(known.directory, program.name).exists():
        return f"{program.name} is not found from {known.directory}: it was started elsewhere, or has been removed"
    if program.kind == "module" and known.main_file is not None:
        root = Path(known.first_path or ".")
        if not Path(known.main_file).exists():
            return f"{known.main_file} has been removed"
        if Path(known.main_file).is_relative_to(root) and root != Path(known.directory):
            return f"module {program.name} was found in {root}, and this process had left that for {known.directory}"
    return None


_was_forked = False


def _forked() -> None:
    global _was_forked  # noqa: PLW0603 - a fork changes what is true of the whole process
    _was_forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


def directory() -> str | None:
    """The working directory; None when it was removed."""
    try:
        return str(Path.cwd())
    except OSError:
        return None


STARTED_IN: Final = directory()
"""Where the plugin was imported; as a rule, where the program was started."""


def facts() -> Facts:
    """What is known of this process."""
    main: Any = sys.modules.get("__main__")
    return Facts(
        arguments=tuple(getattr(sys, "orig_argv", ())),
        executable=sys.executable or "",
        directory=STARTED_IN,
        main_file=getattr(main, "__file__", None),
        first_path=sys.path[0] if sys.path and not sys.flags.safe_path else os.devnull,
        is_posix=os.name == "posix",
        is_frozen=bool(getattr(sys, "frozen", False)),
        is_interactive=hasattr(sys, "ps1") or bool(sys.flags.interactive),
        is_fork=_was_forked or _is_worker() or _flags_of_kernel() & FORKED != 0,
        is_given_sockets=os.environ.get("LISTEN_PID") == str(os.getpid()) and bool(os.environ.get("LISTEN_FDS")),
    )


def _is_worker() -> bool:
    multiprocessing: Any = sys.modules.get("multiprocessing")  # a worker has it; others need not import it for this
    return multiprocessing is not None and multiprocessing.parent_process() is not None


def _flags_of_kernel() -> int:
    """The kernel's flags of this process; 0 where it does not tell. Source: proc_pid_stat(5), field 9."""
    try:
        text = Path("/proc/self/stat").read_text(encoding="utf-8", errors="replace")
        return int(text.rpartition(")")[2].split()[6])
    except (OSError, ValueError, IndexError):
        return 0
