"""The ``dask-root-lambda`` command.

A subcommand is an entry of `COMMANDS`. What it needs is imported when it is chosen: help is quick, and a
command whose extra is not installed does not disturb the others.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.util
import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, ModuleType
from typing import NoReturn

from dask_root_lambda import __version__
from dask_root_lambda.protocol.errors import ConfigurationError, DaskRootLambdaError, RemoteError

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
        # Whoever read our output has gone, like head. The interpreter must not write to it at exit either.
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


def _say(text: str) -> None:
    """Write text for the user; the one place that does."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _plain(error: DaskRootLambdaError) -> str:
    """Return an error without the traceback of where it ran: no code of the user's is in it."""
    if not isinstance(error, RemoteError):
        return str(error)
    said = DaskRootLambdaError.__str__(error)
    return f"{said}\nROOT reported:\n{error.diagnostics.rstrip()}" if error.diagnostics else said


def _stop(text: str, status: int) -> int:
    sys.stderr.write(f"{text}\n")
    return status


def _positive(text: str) -> int:
    number = int(text) if text.isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return number


def _demo_arguments(parser: argparse.ArgumentParser) -> None:
    from dask_root_lambda.config import EXECUTIONS
    from dask_root_lambda.demo import DEFAULT_EVENTS

    parser.epilog = (
        "Without --files it reads generated events, which are kept in the user's cache directory; under "
        "--execution lambda, CERN's open data: 61.5 million events of CMS, over root://."
    )
    add = parser.add_argument
    data = parser.add_mutually_exclusive_group()
    data.add_argument("--files", nargs="+", metavar="F", help="ROOT files to read, root:// included")
    size = f"size of the generated dataset (default: {DEFAULT_EVENTS:,})"
    data.add_argument("--events", type=_positive, metavar="N", help=size)
    add("--tree", default="Events", metavar="NAME", help="tree or RNTuple in the files (%(default)s)")
    where = "AWS Lambda, an emulated Lambda on this machine, or this process (default: %(default)s)"
    add("--execution", choices=EXECUTIONS, default="emulated", help=where)
    ranges = (
        "ranges to divide the dataset into (default: 16 of generated events, else as many as run at once)"
    )
    add("--npartitions", type=_positive, metavar="N", help=ranges)
    at_once = "ranges at once (default: 1000 on AWS, else the number of cores)"
    add("--concurrency", type=_positive, metavar="N", help=at_once)
    add("--output", type=Path, default=Path(), metavar="DIR", help="where to put the plots (default: here)")
    add("--json", type=Path, metavar="FILE", help="write cut flow, mean mass and report to this file")


def _demo(args: argparse.Namespace) -> int:
    from dask_root_lambda.demo.run import Request, run

    # What fails is raised; distributed would tell it as well, with tracebacks.
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    run(
        Request(
            files=args.files,
            tree=args.tree,
            events=args.events,
            execution=args.execution,
            npartitions=args.npartitions,
            concurrency=args.concurrency,
            output=args.output,
            json=args.json,
        ),
        _say,
    )
    return 0


def _emulate_arguments(parser: argparse.ArgumentParser) -> None:
    missing = [name for name in ("awslambdaric", "moto") if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigurationError(
            f"the emulator needs {' and '.join(missing)}: pip install 'dask-root-lambda[emulator]'"
        )
    from dask_root_lambda.emulator.__main__ import add_arguments

    add_arguments(parser)
    # A person reads it; the module by itself is for programs.
    parser.set_defaults(output="shell")
    parser.epilog = (
        "It prints what to export for boto3, the AWS CLI and Terraform, and serves until Ctrl-C. In a "
        "script: dask-root-lambda emulate > exports & until [ -s exports ]; do sleep 1; done; . ./exports"
    )


def _emulate(args: argparse.Namespace) -> int:
    from dask_root_lambda.emulator.__main__ import serve

    # It tells what goes wrong by logging, also while it serves.
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    return serve(args)


def _module(summary: str, name: str) -> Command:
    """Make a subcommand of a module of `dask_root_lambda.commands`, imported when it is chosen."""

    def load() -> ModuleType:
        return importlib.import_module(f"dask_root_lambda.commands.{name}")

    return Command(summary, lambda parser: load().add_arguments(parser), lambda args: int(load().run(args)))


COMMANDS: Mapping[str, Command] = {
    "demo": Command("Draw the dimuon spectrum, on an emulated Lambda by default", _demo_arguments, _demo),
    "emulate": Command("Serve an emulated AWS Lambda on this machine", _emulate_arguments, _emulate),
    "deploy": _module("Make a deployment in an AWS account, or change it", "deploy"),
    "status": _module("Tell what is deployed, and what this month's runs cost", "status"),
    "doctor": _module("Check that a deployment can be used from here", "doctor"),
    "logs": _module("Show what functions logged: of a run, a task or a request", "logs"),
    "config": _module("Show the settings, and where each comes from", "config"),
    "destroy": _module("Delete a deployment, and all that it made", "destroy"),
}


if __name__ == "__main__":
    sys.exit(main())
