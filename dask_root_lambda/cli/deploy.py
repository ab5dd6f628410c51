"""``dask-root-lambda deploy``: from an account to a deployment, or from one to the next."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dask_root_lambda.cli.console import Console, add_place, open_session, table
from dask_root_lambda.deployment import rollout
from dask_root_lambda.deployment.image import PROGRAMS
from dask_root_lambda.deployment.rollout import Asked, Dialog, Outcome
from dask_root_lambda.deployment.terraform import Plan

_EXAMPLES = """\
examples:
  dask-root-lambda deploy --region us-east-1                 everything, with defaults
  dask-root-lambda deploy --plan                             what would be changed
  dask-root-lambda deploy --tiers 3538 10240 --snapstart     more memory by function, quick starts
  dask-root-lambda deploy --input-bucket open-data --output-bucket skims
  dask-root-lambda deploy --package vector --var log_retention_days=7

Options that are not given stay as they were at the last deploy, whoever did it. It needs Terraform, and one
of docker, podman, finch and buildah unless --image is given. docs/deploy.md tells the whole story, and what
it costs."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_place(parser)
    parser.epilog = _EXAMPLES
    function = parser.add_argument_group("the function")
    add = function.add_argument
    add("--memory", type=int, metavar="MB", help="memory; 1,769 MB are one vCPU (first: 1769)")
    add("--tiers", type=int, nargs="*", metavar="MB", help="memory of further functions, such as 3538 10240")
    add("--timeout", type=int, metavar="S", help="seconds that one range may take (first: 900)")
    idle = "start from a snapshot, which costs while idle too (first: no)"
    add("--snapstart", action=argparse.BooleanOptionalAction, default=None, help=idle)
    readable = "bucket that functions may read; all that are wanted"
    add("--input-bucket", action="append", metavar="BUCKET", help=readable)
    writable = "bucket that functions may write to, for Snapshot and copy; all that are wanted"
    add("--output-bucket", action="append", metavar="BUCKET", help=writable)
    variable = "variable of infra/; null for its default"
    add("--var", action="append", default=[], type=_variable, metavar="NAME=VALUE", help=variable)
    image = parser.add_argument_group("the image")
    add = image.add_argument
    add("--image", metavar="URI", help="an image that exists in ECR, instead of building one")
    add("--base", metavar="IMAGE", help="build on this image instead of Python's own")
    has_root = "the base image has ROOT (first: no)"
    add("--base-has-root", action=argparse.BooleanOptionalAction, default=None, help=has_root)
    add("--package", action="append", metavar="REQ", help="what functions import besides, for pip; all of it")
    add("--plain-image", action="store_true", help="forget --image, --base and --package of earlier deploys")
    add("--builder", choices=PROGRAMS, help="program that builds it (default: the first that works)")
    how = parser.add_argument_group("how")
    add = how.add_argument
    add("--plan", action="store_true", help="show what would be changed, and change nothing")
    add("--yes", action="store_true", help="do not ask")
    add(
        "--backend", type=Path, metavar="FILE", help="Terraform backend block, for a state that a team shares"
    )
    add("--verbose", action="store_true", help="show what Terraform and the builder write")


def run(args: argparse.Namespace) -> int:
    """Deploy; 0 also where there was nothing to do, 1 where the user said no."""
    console = Console(args.json, args.verbose)
    settings, session = open_session(args)
    asked = Asked(
        variables=_variables(args),
        image=args.image,
        base=args.base,
        base_has_root=args.base_has_root,
        packages=None if args.package is None else tuple(args.package),
        plain_image=args.plain_image,
        builder=args.builder,
        backend=args.backend,
        plan_only=args.plan,
    )
    dialog = Dialog(console.step, console.detail, lambda plan: _confirm(console, plan, args.yes))
    outcome = rollout.deploy(session, settings, asked, dialog)
    console.result(_document(outcome), lambda: _text(outcome, settings.deployment, session.region))
    return 0 if outcome.applied or args.plan else 1


def _variable(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _variables(args: argparse.Namespace) -> dict[str, Any]:
    values = {
        "memory_mb": args.memory,
        "memory_tiers_mb": args.tiers,
        "timeout_s": args.timeout,
        "snapstart": args.snapstart,
        "input_buckets": args.input_bucket,
        "output_buckets": args.output_bucket,
    }
    return {**{name: value for name, value in values.items() if value is not None}, **dict(args.var)}


def _confirm(console: Console, plan: Plan, yes: bool) -> bool:
    for change in plan.changes:
        console.step(f"  {change.action:<8} {change.address}")
    if yes or not console.interactive:
        return True
    return console.ask(f"{plan.summary()}. Go on? [y/N] ").lower() in ("y", "yes")


def _document(outcome: Outcome) -> dict[str, Any]:
    return {
        "applied": outcome.applied,
        "pushed": outcome.pushed,
        "changes": [asdict(change) for change in outcome.plan.changes],
        "deleted_versions": list(outcome.deleted_versions),
        "outputs": dict(outcome.outputs),
    }


def _text(outcome: Outcome, name: str, region: str) -> str:
    if not outcome.applied:
        changes = [f"  {change.action:<8} {change.address}" for change in outcome.plan.changes]
        return "\n".join((*changes, f"{outcome.plan.summary()}; nothing was done"))
    outputs = outcome.outputs
    rows = {
        "deployed": f"{name} in {region}",
        "function": ", ".join(f"{key} ({mb} MB)" for mb, key in outputs["tiers"].items()),
        "version": ", ".join(f"{key}:{version}" for key, version in outputs["versions"].items()),
        "image": f"{outputs['image']}{' (new)' if outcome.pushed else ''}",
        "store": outputs["store"],
        "user policy": outputs["user_policy_arn"],
        "deleted": ", ".join(outcome.deleted_versions) or "no old version",
    }
    return f"{table(rows)}\nCheck it with: dask-root-lambda doctor --name {name} --region {region}"
