"""``dask-root-lambda config``: the settings, and where each comes from."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import dask.config
import yaml

from dask_root_lambda.cli.console import Console, add_place, settings_of
from dask_root_lambda.config import Settings
from dask_root_lambda.invocation import aws
from dask_root_lambda.protocol.errors import DaskRootLambdaError

_EXAMPLES = """\
examples:
  dask-root-lambda config
  DASK_DASK_ROOT_LAMBDA__CONCURRENCY=200 dask-root-lambda config

An argument goes before Dask's configuration: environment variables DASK_DASK_ROOT_LAMBDA__..., then files in
~/.config/dask, then what is packaged. Credentials are not shown, only where they come from."""

_SPACE = "dask-root-lambda"
_USER_INFO = re.compile(r"//[^/@]*@")
_OPTIONS = {"deployment": "--name", "region": "--region", "profile": "--profile"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_place(parser)
    parser.epilog = _EXAMPLES


def run(args: argparse.Namespace) -> int:
    """Show."""
    settings = settings_of(args)
    given = {"deployment": args.name, "region": args.region, "profile": args.profile}
    rows = [
        (item.metadata["key"], _shown(getattr(settings, item.name)), _source(item.metadata["key"]))
        for item in fields(Settings)
        if item.name != "execution"
    ]
    # The command itself always means AWS; scripts take what is configured.
    rows.insert(0, ("execution", _shown(dask.config.get(f"{_SPACE}.execution")), _source("execution")))
    named = {f"aws.{name}": option for name, option in _OPTIONS.items() if given[name] is not None}
    rows = [(key, value, named.get(key, source)) for key, value, source in rows]
    rows += _aws(settings)
    document = {key: {"value": value, "source": source} for key, value, source in rows}
    wide = max(len(key) for key, _, _ in rows) + 2
    text = "\n".join(f"{key:<{wide}}{value!s:<24}  {source}" for key, value, source in rows)
    Console(args.json).result(document, text)
    return 0


def _shown(value: Any) -> Any:
    """Leave out what may be secret: user and password in a URL."""
    return _USER_INFO.sub("//***@", value) if isinstance(value, str) else value


def _source(key: str) -> str:
    """Name where Dask has a setting from."""
    path = f"{_SPACE}.{key}"
    variable = f"DASK_{path.replace('-', '_').replace('.', '__').upper()}"
    if variable in os.environ:
        return variable
    for file in _files():
        if dask.config.get(path, default=None, config=_loaded(file)) is not None:
            return str(file)
    return "packaged"


def _files() -> Iterator[Path]:
    """List the files that Dask reads, the one that counts most first."""
    for place in reversed(dask.config.paths):
        path = Path(place)
        yield from sorted((*path.glob("*.yaml"), *path.glob("*.yml")), reverse=True)


def _loaded(path: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError):
        return {}
    return found if isinstance(found, dict) else {}


def _aws(settings: Settings) -> list[tuple[str, Any, str]]:
    """Tell what boto3 makes of it."""
    try:
        session = aws.Session(settings)
    except DaskRootLambdaError as error:
        return [("AWS", "cannot be used", error.message)]
    return [
        ("AWS region", session.region, "effective"),
        ("AWS endpoint", _shown(session.endpoint or "AWS's own"), "effective"),
        ("AWS credentials", "not shown", session.credential_source),
    ]
