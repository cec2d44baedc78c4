"""The command line: ``switchgear demo``, ``pub``, ``sub``, ``simulate``, ``plugins``, and what plugins add."""

from switchgear.cli.app import main

__all__ = ["main"]
