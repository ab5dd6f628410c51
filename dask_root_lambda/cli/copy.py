"""``dask-root-lambda copy``: files between this machine, ``root://``, ``s3://`` and ``https://``."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from dask_root_lambda.cli.console import Console, positive
from dask_root_lambda.config import EXECUTIONS
from lambda_runtime.remote import names

if TYPE_CHECKING:
    from dask_root_lambda.copying.plan import Item
    from dask_root_lambda.copying.run import Outcome
    from dask_root_lambda.cost.report import Report
    from dask_root_lambda.execution.executor import LambdaExecutor

_FAILED = 1
_AT_ONCE = 4


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.epilog = (
        "What is there already and equal is skipped: give an interrupted copy again, and it goes on, large "
        "files to S3 from the parts that are there. S3 keeps those, and bills them, until then. A "
        "target that ends in a slash, or that has several sources, is a folder."
    )
    add = parser.add_argument
    add(
        "sources",
        nargs="+",
        metavar="SRC",
        help="files, patterns, folders (with a slash)",
    )
    add("target", metavar="DST", help="a local path, or s3://bucket/key")
    where = (
        "where files that are far at both ends are copied: AWS Lambda, an emulated Lambda on this machine, "
        "or this process (default: %(default)s)"
    )
    add("--execution", choices=EXECUTIONS, default="local", help=where)
    at_once = f"files at once (default: {_AT_ONCE} in this process, else as many as functions)"
    add("--at-once", type=positive, metavar="N", help=at_once)
    add("--dry-run", action="store_true", help="tell what would be copied, and stop")
    abandon = "remove the parts in S3 that an interrupted copy of these files has left, and stop"
    add("--abandon", action="store_true", help=abandon)
    add("--json", action="store_true", help="answer in JSON, on standard output")


def run(args: argparse.Namespace) -> int:
    """Copy; return the exit status."""
    from dask_root_lambda.copying import large, plan, progress
    from dask_root_lambda.copying import run as copies

    console = Console(as_json=args.json)
    items = plan.plan(args.sources, args.target)
    if args.abandon:
        abandoned = [item for item in items if item.object is not None and large.abandon(item.object)]
        console.result({"abandoned": _described(abandoned)}, lambda: progress.abandoned(abandoned))
        return 0
    if args.dry_run:
        console.result({"files": list(map(_planned, items))}, lambda: progress.planned(items))
        return 0
    try:
        with _functions(args, items) as functions, progress.shown(items, console.step) as watch:
            outcome = copies.run(items, args.at_once or _AT_ONCE, watch, functions)
    except KeyboardInterrupt:
        if any(large.is_large(item.content, item.object) and not item.is_there for item in items):
            console.step(
                "S3 keeps the parts of large files that are there, and bills them: the same command goes on, "
                "and removes them with --abandon"
            )
        raise
    report = None if functions is None else functions.report()
    console.result(_document(outcome, report), lambda: progress.summary(outcome, report))
    return _FAILED if outcome.failed else 0


@contextmanager
def _functions(args: argparse.Namespace, items: Sequence[Item]) -> Iterator[LambdaExecutor | None]:
    """Open the functions that copy, where there is something for them to do."""
    if args.execution == "local" or not any(item.is_far and not item.is_there for item in items):
        yield None
        return
    from dask_root_lambda.execution.executor import LambdaExecutor

    with LambdaExecutor(args.execution, concurrency=args.at_once) as executor:
        yield executor


def _document(outcome: Outcome, report: Report | None) -> dict[str, Any]:
    return {
        **({} if report is None else {"report": report.to_dict()}),
        "copied": _described(outcome.copied),
        "skipped": _described(outcome.skipped),
        "failed": [{**_described([item])[0], "problem": problem} for item, problem in outcome.failed],
        "copied_bytes": outcome.copied_bytes,
        "seconds": round(outcome.seconds, 3),
    }


def _planned(item: Item) -> dict[str, Any]:
    return {**_described([item])[0], "is_there": item.is_there}


def _described(items: Sequence[Item]) -> list[dict[str, Any]]:
    return [
        {"source": names.shown(item.content.url), "target": item.shown, "bytes": item.content.size}
        for item in items
    ]
