"""What commands have in common: which deployment, and how they answer."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from dask_root_lambda.config import Settings
from dask_root_lambda.invocation import aws


@dataclass(frozen=True)
class Console:
    """Where a command's words go: with ``--json`` only the result is on standard output."""

    as_json: bool
    """Whether the result is for a program."""
    verbose: bool = False
    """Whether what Terraform and others write is passed on."""

    def step(self, text: str) -> None:
        """Tell a person what goes on."""
        self._write(sys.stderr if self.as_json else sys.stdout, text)

    def detail(self, line: str) -> None:
        """Pass on a line of another program."""
        if self.verbose:
            self._write(sys.stderr, line)

    def result(self, document: Mapping[str, Any], text: str | Callable[[], str]) -> None:
        """Answer: the document as JSON, or the text."""
        if self.as_json:
            self._write(sys.stdout, json.dumps(document, indent=2))
        else:
            self._write(sys.stdout, text if isinstance(text, str) else text())

    @property
    def interactive(self) -> bool:
        """Whether somebody is there to be asked."""
        return not self.as_json and sys.stdin.isatty() and sys.stdout.isatty()

    def ask(self, question: str) -> str:
        """Ask; the answer is without blanks around it."""
        sys.stdout.write(question)
        sys.stdout.flush()
        return sys.stdin.readline().strip()

    def _write(self, stream: Any, text: str) -> None:
        stream.write(f"{text}\n")
        stream.flush()


def add_place(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which deployment is meant, and ``--json``."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("--name", metavar="NAME", help="the deployment (default: dask-root-lambda.aws.deployment)")
    add("--region", metavar="REGION", help="AWS region (default: as boto3 finds it)")
    add("--profile", metavar="NAME", help="profile of the AWS configuration")
    add("--json", action="store_true", help="answer in JSON, on standard output")


def settings_of(args: argparse.Namespace) -> Settings:
    """Resolve the settings, with the command's options first."""
    return Settings.resolve(
        execution="lambda", deployment=args.name, region=args.region, profile=args.profile
    )


def open_session(args: argparse.Namespace) -> tuple[Settings, aws.Session]:
    """Return the settings, and AWS as they describe it."""
    settings = settings_of(args)
    return settings, aws.Session(settings)


def table(rows: Mapping[str, str]) -> str:
    """Lay out names and values in two columns."""
    width = max(map(len, rows), default=0) + 2
    return "\n".join(f"{name:<{width}}{value}".rstrip() for name, value in rows.items())


def positive(text: str) -> int:
    """Read an option's whole number from 1; argparse tells what is none."""
    number = int(text) if text.isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return number
