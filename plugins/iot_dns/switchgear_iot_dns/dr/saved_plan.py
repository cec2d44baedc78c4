"""Plans that are saved for the day: ``switchgear dr plan --out`` and ``apply --plan``. Reads and writes that one file."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from switchgear_iot_dns.dr.errors import InvalidPlanFile, StalePlan
from switchgear_iot_dns.dr.plan import NO_PLAN, Plan

if TYPE_CHECKING:
    from pathlib import Path


def load(path: Path) -> Plan:
    """The plan that `save` wrote to *path*.

    Raises:
        InvalidPlanFile: it cannot be read.
        StalePlan: it was edited since.
    """
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidPlanFile(str(path), "", error.strerror or str(error)) from error
    except (ValueError, RecursionError) as error:
        raise InvalidPlanFile(str(path), "", NO_PLAN) from error
    return Plan.from_dict(facts if isinstance(facts, dict) else {}, str(path))


def check_place(path: Path) -> None:
    """Refuse to write a plan over anything but an older one.

    Raises:
        InvalidPlanFile: *path* is there, and is no saved plan: the plan file itself, for one.
    """
    try:
        if path.stat().st_size:
            load(path)
    except FileNotFoundError:
        return
    except StalePlan:  # an older one, edited since
        return
    except OSError as error:
        raise InvalidPlanFile(str(path), "", error.strerror or str(error)) from error
    except InvalidPlanFile as error:
        if error.key != "version":
            raise InvalidPlanFile(str(path), "", f"not overwritten; {error.why}; choose another --out") from error


def save(path: Path, plan: Plan) -> None:
    """Write *plan* to *path*; what was there stays until the new one is whole.

    Raises:
        InvalidPlanFile: it cannot be written, or `check_place` refuses *path*.
    """
    check_place(path)
    text = json.dumps(plan.as_dict(), indent=2, ensure_ascii=False) + "\n"
    try:
        if path.exists() and not path.is_file():  # a terminal or a pipe
            path.write_text(text, encoding="utf-8")
            return
        real = path.resolve()
        beside = real.with_name(f".{real.name}.{os.getpid()}")
        try:
            beside.write_text(text, encoding="utf-8")
            beside.replace(real)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise InvalidPlanFile(str(path), "", error.strerror or str(error)) from error
