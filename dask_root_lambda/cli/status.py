"""``dask-root-lambda status``: what is deployed, and what it costs."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from dask_root_lambda import __version__
from dask_root_lambda.cli.console import Console, add_place, open_session, table
from dask_root_lambda.deployment import status
from dask_root_lambda.deployment.status import Status

_EXAMPLES = """\
examples:
  dask-root-lambda status
  dask-root-lambda status --name muons --region eu-west-1 --json

The cost is of runs from this machine, at list prices; AWS's own figures are in its Cost Explorer."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_place(parser)
    parser.epilog = _EXAMPLES


def run(args: argparse.Namespace) -> int:
    """Tell."""
    settings, session = open_session(args)
    found = status.look(session, settings)
    Console(args.json).result({**asdict(found), "client_version": __version__}, lambda: _text(found))
    return 0


def _text(found: Status) -> str:
    deployment, spent = found.deployment, found.spent
    rows = {"deployment": f"{deployment.name} in {deployment.region} of account {found.account}"}
    for each in found.functions:
        snapshot = ", SnapStart" if each.snapstart else ""
        rows[f"function {each.name}"] = (
            f"{each.state}, version {each.version} of {each.modified}, {each.memory_mb} MB{snapshot}"
        )
    rows |= {
        "image": deployment.image,
        "store": deployment.store,
        "log group": deployment.log_group,
        "versions": f"deployed by dask-root-lambda {deployment.version}, this is {__version__}",
        "idle": f"{found.idle_usd_per_month:,.2f} USD a month for snapshots",
        f"runs in {found.month}": (
            f"{spent.usd:,.4f} USD: {spent.invocations:,} invocations, {spent.gb_seconds:,.1f} GB-s"
        ),
    }
    return table(rows)
