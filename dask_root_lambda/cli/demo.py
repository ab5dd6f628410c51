"""``dask-root-lambda demo``: the main job."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from dask_root_lambda.cli.console import Console, positive
from dask_root_lambda.config import EXECUTIONS
from dask_root_lambda.demo import DEFAULT_EVENTS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.epilog = (
        "Without --files it reads generated events, which are kept in the user's cache directory; under "
        "--execution lambda, CERN's open data: 61.5 million events of CMS, over root://."
    )
    add = parser.add_argument
    data = parser.add_mutually_exclusive_group()
    data.add_argument(
        "--files", nargs="+", metavar="F", help="ROOT files to read; s3://, https:// and root:// too"
    )
    size = f"size of the generated dataset (default: {DEFAULT_EVENTS:,})"
    data.add_argument("--events", type=positive, metavar="N", help=size)
    add("--tree", default="Events", metavar="NAME", help="tree or RNTuple in the files (%(default)s)")
    where = "AWS Lambda, an emulated Lambda on this machine, or this process (default: %(default)s)"
    add("--execution", choices=EXECUTIONS, default="emulated", help=where)
    ranges = (
        "ranges to divide the dataset into (default: 16 of generated events, else as many as run at once)"
    )
    add("--npartitions", type=positive, metavar="N", help=ranges)
    at_once = "ranges at once (default: 1000 on AWS, else the number of cores)"
    add("--concurrency", type=positive, metavar="N", help=at_once)
    via = "put the generated events into an emulated S3 first, and read them from there"
    add("--via", choices=("s3",), help=via)
    add("--output", type=Path, default=Path(), metavar="DIR", help="where to put the plots (default: here)")
    add(
        "--estimate", action="store_true", help="run a few ranges, tell what all will take and cost, and stop"
    )
    add("--json", type=Path, metavar="FILE", help="write cut flow, mean mass and report to this file")


def run(args: argparse.Namespace) -> int:
    """Run the analysis, and draw; return the exit status."""
    from dask_root_lambda.demo import run as demo

    # What fails is raised; distributed would tell it as well, with tracebacks.
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    act = demo.estimate if args.estimate else demo.run
    act(
        demo.Request(
            files=args.files,
            tree=args.tree,
            events=args.events,
            execution=args.execution,
            npartitions=args.npartitions,
            concurrency=args.concurrency,
            via=args.via,
            output=args.output,
            json=args.json,
        ),
        Console(as_json=False).step,
    )
    return 0
