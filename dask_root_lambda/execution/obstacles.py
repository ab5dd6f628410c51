"""Why an execution cannot be chosen, as far as can be told without opening it."""

from __future__ import annotations

from collections.abc import Iterable

from dask_root_lambda.config import Execution, Settings
from dask_root_lambda.invocation import emulated
from dask_root_lambda.plan.steps import PackedMapper
from dask_root_lambda.protocol.errors import InputError


def obstacle(execution: Execution, settings: Settings, mappers: Iterable[PackedMapper]) -> str:
    """Say why ranges cannot run under an execution; empty where nothing is known against it.

    Parameters
    ----------
    execution
        Where they would run.
    settings
        Of the executor.
    mappers
        Of the runs that go on: their ranges would fail where their files cannot be reached.
    """
    if execution == "emulated":
        return emulated.missing()
    if settings.is_remote(execution):
        for mapper in mappers:
            try:
                mapper.check_reach()
            except InputError as error:
                return f"a run goes on, and {error.message}"
    return ""
