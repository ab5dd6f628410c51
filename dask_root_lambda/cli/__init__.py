"""The ``dask-root-lambda`` command; each subcommand is a module here."""

from dask_root_lambda.cli.command import main

__all__ = ["main"]
