"""What can be asked of an executor from the page, and how it is done: as in Python."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from dask_root_lambda.execution.executor import LambdaExecutor
from dask_root_lambda.protocol.errors import ConfigurationError

STEER_OPERATION = "dask_root_lambda_steer"
"""What the scheduler asks workers for."""


@dataclass(frozen=True)
class Action:
    """One thing that is to be done."""

    name: str
    """``execution``, ``concurrency``, ``max_usd`` or ``stop``."""
    value: Any
    """An execution, a number, USD or None for no limit, or the identity of a run."""

    @classmethod
    def from_json(cls, body: bytes | str) -> Action:
        """Read an action: an object with one member.

        Raises
        ------
        ConfigurationError
            It is none, and what there is.
        """
        try:
            ((name, value),) = json.loads(body).items()
        except (AttributeError, TypeError, ValueError):
            name, value = "", None
        kinds = _KINDS.get(name)
        if kinds is None or not isinstance(value, kinds) or isinstance(value, bool):
            known = ", ".join(f'{{"{each}": ...}}' for each in _KINDS)
            raise ConfigurationError(f"the page knows the actions {known} only")
        return cls(name, value)

    def shared(self, n_workers: int) -> tuple[Action, ...]:
        """Return what each worker is to do: the page shows, and takes, the limits of all together.

        Raises
        ------
        ConfigurationError
            Some worker would get nothing of it.
        """
        if n_workers < 2 or self.value is None or self.name not in ("max_usd", "concurrency"):
            return (self,) * n_workers
        if self.name == "max_usd":
            return (replace(self, value=self.value / n_workers),) * n_workers
        if self.value < n_workers:
            raise ConfigurationError(
                f"concurrency is {self.value!r}: each of the {n_workers:,} workers needs at least 1"
            )
        each, more = divmod(self.value, n_workers)
        return tuple(replace(self, value=each + (index < more)) for index in range(n_workers))

    def to_json(self) -> str:
        """Return what `from_json` reads."""
        return json.dumps({self.name: self.value})


_KINDS: Mapping[str, tuple[type, ...]] = {
    "execution": (str,),
    "concurrency": (int,),
    "max_usd": (int, float, type(None)),
    "stop": (str,),
}


def do(executor: LambdaExecutor, action: Action) -> None:
    """Do it. Opening an execution may take seconds.

    Raises
    ------
    DaskRootLambdaError
        It cannot be done, and why; nothing has changed.
    """
    if action.name == "execution":
        executor.execution = action.value
    elif action.name == "concurrency":
        executor.concurrency = action.value
    elif action.name == "max_usd":
        executor.max_cost_usd = action.value
    else:
        executor.stop(action.value)
