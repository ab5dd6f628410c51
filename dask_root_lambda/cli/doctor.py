"""``dask-root-lambda doctor``: whether the deployment can be used from here."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from dask_root_lambda.cli.console import Console, add_place, settings_of
from dask_root_lambda.deployment import doctor

_EXAMPLES = """\
examples:
  dask-root-lambda doctor
  dask-root-lambda doctor --files root://eospublic.cern.ch//eos/opendata/cms/derived-data/...root

One line for each check: ok, or what to do. It invokes the function, which costs less than a cent. Exit
status 1 if a check failed."""

_MARKS = {"ok": "ok", "failed": "FAILED", "unknown": "?"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_place(parser)
    parser.epilog = _EXAMPLES
    parser.add_argument("--files", nargs="+", default=[], metavar="URL", help="that functions have to read")


def run(args: argparse.Namespace) -> int:
    """Check; 1 if something failed."""
    console, checks = Console(args.json), []
    for check in doctor.examine(settings_of(args), args.files):
        checks.append(check)
        if not args.json:
            console.step(f"{_MARKS[check.outcome]:<8}{check.name}: {check.said}")
    failed = any(check.outcome == "failed" for check in checks)
    if args.json:
        console.result({"ok": not failed, "checks": [asdict(check) for check in checks]}, "")
    return 1 if failed else 0
