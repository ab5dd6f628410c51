"""``dask-root-lambda destroy``: nothing of a deployment is left."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from dask_root_lambda.cli.console import Console, add_place, open_session
from dask_root_lambda.deployment import rollout
from dask_root_lambda.deployment.rollout import Dialog
from dask_root_lambda.deployment.terraform import Plan
from dask_root_lambda.protocol.errors import ConfigurationError

_EXAMPLES = """\
examples:
  dask-root-lambda destroy                      asks for the name first
  dask-root-lambda destroy --name muons --yes   in a script"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_place(parser)
    parser.epilog = _EXAMPLES
    add = parser.add_argument
    add("--yes", action="store_true", help="do not ask")
    add("--backend", type=Path, metavar="FILE", help="Terraform backend block, if it was deployed with one")
    add("--verbose", action="store_true", help="show what Terraform writes")


def run(args: argparse.Namespace) -> int:
    """Destroy; 1 where the user said no."""
    console = Console(args.json, args.verbose)
    settings, session = open_session(args)
    if not args.yes and not console.interactive:
        raise ConfigurationError("destroy asks first, and nobody is there to answer: add --yes")
    name = settings.deployment

    def confirm(plan: Plan) -> bool:
        for change in plan.changes:
            console.step(f"  {change.action:<8} {change.address}")
        question = f"{plan.summary()}, in {session.region}. Type the name of the deployment to go on: "
        return bool(args.yes) or console.ask(question) == name

    outcome = rollout.destroy(session, settings, Dialog(console.step, console.detail, confirm), args.backend)
    document = {"applied": outcome.applied, "changes": [asdict(change) for change in outcome.plan.changes]}
    done = f"destroyed {name} in {session.region}" if outcome.applied else "nothing was done"
    console.result(document, done)
    return 0 if outcome.applied else 1
