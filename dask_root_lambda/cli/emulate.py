"""``dask-root-lambda emulate``: the emulated Lambda by itself."""

from __future__ import annotations

import argparse
import logging

from dask_root_lambda.invocation import emulated
from dask_root_lambda.protocol.errors import ConfigurationError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes.

    Raises
    ------
    ConfigurationError
        The extra ``emulator`` is not installed.
    """
    if reason := emulated.missing():
        raise ConfigurationError(reason)
    from dask_root_lambda.emulator.__main__ import add_arguments

    add_arguments(parser)
    # A person reads it; the module by itself is for programs.
    parser.set_defaults(output="shell")
    parser.epilog = (
        "It prints what to export for boto3, the AWS CLI and Terraform, and serves until Ctrl-C. In a "
        "script: dask-root-lambda emulate > exports & until [ -s exports ]; do sleep 1; done; . ./exports"
    )


def run(args: argparse.Namespace) -> int:
    """Serve until Ctrl-C; return the exit status."""
    from dask_root_lambda.emulator.__main__ import serve

    # It tells what goes wrong by logging, also while it serves.
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    return serve(args)
