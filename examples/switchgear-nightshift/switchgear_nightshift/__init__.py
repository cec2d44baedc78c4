"""Stay away from the brokers while somebody works on them: as long as a certain file exists.

Options: ``file``, its path; ``check_every``, seconds between two looks; ``at_most``, seconds of an outage after which a
file that somebody forgot no longer counts.
"""

from pathlib import Path

from switchgear import Context, Recheck, Verdict, hookimpl


@hookimpl
def before_reconnect(context: Context) -> Verdict | None:
    """`Recheck` while the file exists; otherwise no opinion."""
    options = context.options
    file = Path(str(options.get("file", "/run/nightshift")))
    check_every = float(str(options.get("check_every", 2)))
    at_most = float(str(options.get("at_most", 4 * 3600)))
    if context.outage < at_most and file.exists():
        return Recheck(check_every, f"{file.name} exists")
    return None
