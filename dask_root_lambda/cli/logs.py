"""``dask-root-lambda logs``: what the functions logged."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from datetime import datetime, timedelta, timezone

from dask_root_lambda.cli.console import Console, add_place, open_session
from dask_root_lambda.deployment import logs
from dask_root_lambda.deployment.logs import Line, Matches
from dask_root_lambda.invocation import discovery
from dask_root_lambda.plan.graph import range_key
from dask_root_lambda.protocol.errors import ConfigurationError

_EXAMPLES = """\
examples:
  dask-root-lambda logs --since 15m                 the last quarter of an hour
  dask-root-lambda logs --request 8f5b...           one invocation, as errors and the report name it
  dask-root-lambda logs --range 17                  range 17 of the run that has logged one last
  dask-root-lambda logs --run 3c0d --range 17       that of a run, by the first digits of its name

All lines of an invocation are shown, those too that its code printed. CloudWatch has what was logged after
some seconds."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_place(parser)
    parser.epilog = _EXAMPLES
    add = parser.add_argument
    add("--run", metavar="RUN", help="identity of a run, as the report names it")
    add("--range", type=int, metavar="N", help="one range, of that run or of the last one")
    add("--task", metavar="KEY", help="a task, as errors name it")
    add("--request", metavar="ID", help="an invocation, as errors name it")
    add("--since", default="1h", metavar="SPAN", help="how far back: 90s, 15m, 3h, 2d (%(default)s)")
    add("--limit", type=int, default=500, metavar="N", help="lines at most (%(default)s)")


def run(args: argparse.Namespace) -> int:
    """Show; nothing found is no error."""
    if args.limit < 1:
        raise ConfigurationError(f"--limit is {args.limit}: it has to be at least 1")
    start = datetime.now(timezone.utc) - timedelta(seconds=logs.seconds(args.since))
    settings, session = open_session(args)
    deployment = discovery.find(session, settings.deployment)
    if args.range is not None:
        found_run = logs.run_of_range(session, deployment, args.range, args.run or "", start)
        args.task = args.task or _range(found_run, args.range)
    text = args.request or args.task or args.run or ""
    found = logs.find(session, deployment, text, start, args.limit, whole=bool(text))
    console, left_out = Console(args.json), _left_out(found, args.limit)
    document = {
        "log_group": deployment.log_group,
        "left_out": left_out,
        "lines": list(map(asdict, found.lines)),
    }
    console.result(
        document, lambda: "\n".join(map(_text, found.lines)) or f"nothing in the last {args.since}"
    )
    if left_out and not args.json:
        console.step(left_out)
    return 0


def _left_out(found: Matches, limit: int) -> str:
    """Say what is not shown, and how to see it."""
    parts = [f"only the first {limit:,} lines are shown: --limit shows more"] if found.cut else []
    if found.requests_left:
        parts.append(
            f"{found.requests_left:,} more invocations are not shown: name a --range, --task or --request"
        )
    return "; ".join(parts)


def _range(run: str, index: int) -> str:
    return f"{'-'.join(map(str, range_key(run, index)))},"


def _text(line: Line) -> str:
    parts = (line.time, line.request_id[:8], line.level, line.message)
    return "  ".join(part for part in parts if part)
