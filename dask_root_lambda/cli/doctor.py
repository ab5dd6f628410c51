"""``dask-root-lambda doctor``: whether the deployment can be used from here."""

from __future__ import annotations

import argparse
from dataclasses import asdict, replace

from dask_root_lambda.cli.console import Console, add_place, settings_of
from dask_root_lambda.deployment import doctor

_EXAMPLES = """\
examples:
  dask-root-lambda doctor
  dask-root-lambda doctor --file root://eospublic.cern.ch//eos/opendata/cms/derived-data/...root
  dask-root-lambda doctor --file s3://bucket/events.root --tree Events
  dask-root-lambda doctor --execution emulated --file https://host/events.root

One line for each check: ok, or what to do. It invokes the function, which costs less than a cent. Exit
status 1 if a check failed."""

_MARKS = {"ok": "ok", "failed": "FAILED", "unknown": "?"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_place(parser)
    parser.epilog = _EXAMPLES
    add = parser.add_argument
    add(
        "--file",
        "--files",
        dest="files",
        nargs="+",
        action="extend",
        default=[],
        metavar="URL",
        help="the function reads the first cluster of each, all columns",
    )
    add("--tree", default="", metavar="NAME", help="in the files (default: the one with the most entries)")
    add(
        "--execution",
        choices=("lambda", "emulated"),
        default="lambda",
        help="where the function is: in AWS, or in an emulator that is started for it",
    )


def run(args: argparse.Namespace) -> int:
    """Check; 1 if something failed."""
    console, checks = Console(args.json), []
    settings = replace(settings_of(args), execution=args.execution)
    for check in doctor.examine(settings, args.files, args.tree):
        checks.append(check)
        if not args.json:
            console.step(f"{_MARKS[check.outcome]:<8}{check.name}: {check.said}")
    failed = any(check.outcome == "failed" for check in checks)
    if args.json:
        console.result({"ok": not failed, "checks": [asdict(check) for check in checks]}, "")
    return 1 if failed else 0
