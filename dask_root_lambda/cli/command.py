"""The ``dask-root-lambda`` command.

A subcommand is an entry of `COMMANDS`. What it needs is imported when it is chosen: help is quick, and a
command whose extra is not installed does not disturb the others.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import FrameType, ModuleType
from typing import NoReturn

from dask_root_lambda import __version__
from dask_root_lambda.protocol.errors import DaskRootLambdaError, RemoteError

_FAILED = 1
_MISUSED = 2
_INTERRUPTED = 130
"""What shells use for Ctrl-C: 128 and the signal's number."""


@dataclass(frozen=True)
class Command:
    """A subcommand."""

    summary: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]
    """Returns the exit status."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Parameters
    ----------
    argv
        Arguments; by default those of the process.

    Returns
    -------
    int
        Exit status: 0, 1 after an error, 130 after Ctrl-C.
    """
    arguments = sys.argv[1:] if argv is None else list(argv)
    warnings.filterwarnings("ignore", r"\s*This distribution of ROOT is in alpha stage", UserWarning)
    try:
        with _quiet_interrupt():
            args = _parser(arguments).parse_args(arguments)
            return COMMANDS[args.command].run(args)
    except DaskRootLambdaError as error:
        return _stop(f"error: {_plain(error)}", _FAILED)
    except KeyboardInterrupt:
        return _stop("interrupted", _INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output has ended, like head. The interpreter must not write to it at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _FAILED


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(_MISUSED, f"error: {message}; see {self.prog} --help\n")


def _parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    parser = _Parser(prog="dask-root-lambda", description="ROOT RDataFrame analyses on AWS Lambda.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    chosen = next((argument for argument in arguments if not argument.startswith("-")), None)
    for name, command in COMMANDS.items():
        added = commands.add_parser(name, help=command.summary, description=f"{command.summary}.")
        if name == chosen:
            command.add_arguments(added)
    return parser


@contextlib.contextmanager
def _quiet_interrupt() -> Iterator[None]:
    """On Ctrl-C, drop the complaints of what is stopped half-way: they would hide the shell's prompt."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)
        signal.default_int_handler(number, frame)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


def _plain(error: DaskRootLambdaError) -> str:
    """Return an error without the traceback of where it ran: no code of the user's is in it."""
    if not isinstance(error, RemoteError):
        return str(error)
    said = DaskRootLambdaError.__str__(error)
    return f"{said}\nROOT reported:\n{error.diagnostics.rstrip()}" if error.diagnostics else said


def _stop(text: str, status: int) -> int:
    sys.stderr.write(f"{text}\n")
    ending = sys.modules.get("lambda_runtime.ending")
    if ending is not None:
        ending.note_status(status)
    return status


def _module(summary: str, name: str) -> Command:
    """Make a subcommand of a module of `dask_root_lambda.cli`, imported when it is chosen."""

    def load() -> ModuleType:
        return importlib.import_module(f"dask_root_lambda.cli.{name}")

    return Command(summary, lambda parser: load().add_arguments(parser), lambda args: int(load().run(args)))


COMMANDS: Mapping[str, Command] = {
    "demo": _module("Draw the dimuon spectrum, on an emulated Lambda by default", "demo"),
    "copy": _module("Copy files between this machine, root://, s3:// and https://", "copy"),
    "emulate": _module("Serve an emulated AWS Lambda on this machine", "emulate"),
    "deploy": _module("Make a deployment in an AWS account, or change it", "deploy"),
    "status": _module("Tell what is deployed, and what this month's runs cost", "status"),
    "doctor": _module("Check that a deployment can be used from here", "doctor"),
    "logs": _module("Show what functions logged: of a run, a task or a request", "logs"),
    "config": _module("Show the settings, and where each comes from", "config"),
    "destroy": _module("Delete a deployment, and all that it made", "destroy"),
}
