"""Plans that are saved for the day: ``switchgear dr plan --out`` and ``apply --plan``. Reads and writes that one file."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from switchgear_iot_dns.dr.errors import InvalidPlanFile
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


def save(path: Path, plan: Plan) -> None:
    """Write *plan* to *path*.

    Raises:
        InvalidPlanFile: it cannot be written.
    """
    try:
        path.write_text(json.dumps(plan.as_dict(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise InvalidPlanFile(str(path), "", error.strerror or str(error)) from error
