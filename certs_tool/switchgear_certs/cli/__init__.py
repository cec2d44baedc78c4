"""The command line: ``switchgear-certs``, and ``switchgear certs`` where Switchgear is installed."""

from switchgear_certs.cli.app import build, main

__all__ = ["build", "main"]
