"""Settings: an argument, else ``dask.config``, else the packaged YAML; resolved once."""

from __future__ import annotations

import numbers
import operator
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from importlib import resources
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

import dask.config
import yaml

from dask_root_lambda.protocol.errors import ConfigurationError

Execution = Literal["lambda", "emulated", "local"]
EXECUTIONS: tuple[Execution, ...] = get_args(Execution)

_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_LAMBDA_CONCURRENCY = 1000
"""AWS's default quota of concurrent executions of an account and region:
https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html"""


MOST_USD = 1e6
"""Largest limit of what runs may cost."""


def _defaults() -> dict[str, Any]:
    text = resources.files("dask_root_lambda").joinpath("dask-root-lambda.yaml").read_text()
    loaded: dict[str, Any] = yaml.safe_load(text)
    return loaded


dask.config.update_defaults(_defaults())


def _option(key: str, low: float | None = None, high: float | None = None) -> Any:
    return field(metadata={"key": key, "low": low, "high": high})


def _count(key: str, low: int, high: int) -> Any:
    return field(metadata={"key": key, "low": low, "high": high, "whole": True})


def _counts(key: str, low: int, high: int) -> Any:
    return field(metadata={"key": key, "low": low, "high": high, "whole": True, "many": True})


@dataclass(frozen=True)
class Settings:
    """What an executor and its invokers need to know; see `Settings.resolve`."""

    execution: Execution = _option("execution")
    """Where ranges run."""
    concurrency: int | None = _count("concurrency", 1, 10_000)
    """Invocations in flight at most; None leaves it to the execution."""
    local_threads: int | None = _count("local-threads", 1, 1024)
    """Ranges at once under local execution; None is the number of cores."""
    merge_threads: int = _count("merge-threads", 1, 256)
    merge_on: Literal["cluster", "lambda"] = _option("merge-on")
    fan_in: int = _count("fan-in", 2, 1000)
    """Partial results merged by one task."""
    skip_unreadable: bool = _option("files.skip-unreadable")
    """Leave out files that cannot be read, and say so."""
    cache_days: int = _count("files.cache-days", 0, 365)
    """For how long what was fetched of far files is read from the deployment's bucket; 0 keeps nothing."""
    keep_results_days: int = _count("results.keep-days", 0, 365)
    """For how long results stay on this machine, for later sessions; 0 keeps none."""
    progress: bool | None = _option("progress")
    """Show how far runs are; False shows nothing."""
    region: str | None = _option("aws.region")
    profile: str | None = _option("aws.profile")
    endpoint_url: str | None = _option("aws.endpoint-url")
    deployment: str = _option("aws.deployment")
    """Name of the deployment that is looked up where no function is named."""
    function: str | None = _option("aws.function")
    """Name or ARN; None is the deployment's."""
    qualifier: str | None = _option("aws.qualifier")
    """Version or alias."""
    store: str | None = _option("aws.store")
    """URL of the store for large bodies; None asks the deployment, or the function."""
    s3_endpoint_url: str | None = _option("s3.endpoint-url")
    """Another S3 than the SDK's configuration names, to read data from."""
    s3_requester_pays: Sequence[str] = _option("s3.requester-pays")
    """Buckets for whose data the user agrees to pay."""
    connect_timeout_s: float = _option("aws.connect-timeout-s", 0.001, 60)
    memory_mb: int = _count("emulated.memory-mb", 128, 10_240)
    """The emulated function's memory."""
    memory_tiers_mb: Sequence[int] = _counts("emulated.memory-tiers-mb", 128, 10_240)
    """Memory of further emulated functions, for tasks that run out of it."""
    timeout_s: int = _count("emulated.timeout-s", 1, 900)
    """The emulated function's time limit."""
    start_timeout_s: float = _option("emulated.start-timeout-s", 0.001, 600)
    """How long the emulator may take to start."""
    snapstart: bool = _option("emulated.snapstart")
    """Fork emulated environments from one in which the usual graphs are compiled."""
    faults: str | None = _option("emulated.faults")
    """File with what goes wrong in the emulator; None for nothing."""
    seed: int | None = _count("emulated.seed", 0, 2**32)
    """Seed of what is left to chance there; None draws another one each time."""
    max_attempts: int = _count("retry.max-attempts", 1, 100)
    max_crashes: int = _count("retry.max-crashes", 1, 100)
    max_cost_usd: float | None = _option("cost.max-usd", 0, MOST_USD)
    """What all runs of an executor may cost together, USD; None for no limit."""
    max_run_cost_usd: float | None = _option("cost.max-usd-per-run", 0, MOST_USD)
    """What each run may cost, USD; None for no limit."""
    max_retry_share: float = _option("retry.max-share", 0, 100)
    """Tries after the first of all ranges of a run, as a part of their number."""
    answer_factor: float = _option("deadline.answer-factor", 1, 1000)
    """An answer is taken for lost after so many times the 95th percentile of its run's ranges."""
    answer_min_s: float = _option("deadline.answer-min-s", 0.1, 900)
    """No answer is taken for lost before."""
    invocation_deadline_s: float | None = _option("deadline.invocation-s", 0.1, 1000)
    """How long an answer is waited for; None for the function's time limit and a margin."""
    range_deadline_s: float | None = _option("deadline.range-s", 0.1, 1e6)
    """What all tries of a range may take together; None for no limit."""
    run_deadline_s: float | None = _option("deadline.run-s", 0.1, 1e6)
    """What a run may take; None for no limit."""
    allowed_origins: Sequence[str] = _option("dashboard.allowed-origins")
    """From which pages may steer, besides the dashboard's own."""
    prices: Mapping[str, Any] = _option("prices")
    """More regions for the price table."""

    @classmethod
    def resolve(cls, **arguments: Any) -> Settings:
        """Take each setting from ``arguments``, else from ``dask.config``.

        Parameters
        ----------
        **arguments
            Settings by the name of their field; None stands for "not given".

        Raises
        ------
        ConfigurationError
            A setting that does not exist or is out of range, with what is allowed.
        """
        known = {item.name: item for item in fields(cls)}
        unknown = sorted(set(arguments) - set(known))
        if unknown:
            raise ConfigurationError(f"no setting named {', '.join(unknown)}; there are {', '.join(known)}")
        values = {
            name: _checked(item.name, item.metadata, arguments.get(name)) for name, item in known.items()
        }
        settings = cls(**values)
        check_execution(settings.execution)
        if settings.merge_on not in ("cluster", "lambda"):
            raise ConfigurationError(f"merge_on is {settings.merge_on!r}: use 'cluster' or 'lambda'")
        return settings

    def is_remote(self, execution: Execution) -> bool:
        """Whether ranges run where files of this machine cannot be read.

        An endpoint on loopback is an emulator, whose functions are processes of this machine.
        """
        if execution != "lambda":
            return False
        endpoint = self.endpoint_url or os.environ.get("AWS_ENDPOINT_URL_LAMBDA")
        return urlsplit(endpoint or os.environ.get("AWS_ENDPOINT_URL", "")).hostname not in _LOOPBACK

    def limit(self, execution: Execution) -> int:
        """How many tasks run at once under an execution."""
        given = self.local_threads if execution == "local" else self.concurrency
        if given is not None:
            return given
        return _LAMBDA_CONCURRENCY if execution == "lambda" else os.cpu_count() or 1


def check_execution(name: str) -> Execution:
    """Return ``name`` if it is an execution.

    Raises
    ------
    ConfigurationError
        It is none.
    """
    for execution in EXECUTIONS:
        if name == execution:
            return execution
    raise ConfigurationError(f"no execution named {name!r}: use {', '.join(map(repr, EXECUTIONS))}")


def _checked(name: str, metadata: Mapping[str, Any], argument: Any) -> Any:
    value = argument if argument is not None else dask.config.get(f"dask-root-lambda.{metadata['key']}")
    if value is None or metadata["low"] is None:
        return value
    if not metadata.get("many"):
        return _number(name, metadata, value)
    if not isinstance(value, list | tuple):
        raise ConfigurationError(f"{name} is {value!r}: it has to be a list")
    return tuple(_number(name, metadata, each) for each in value)


def _number(name: str, metadata: Mapping[str, Any], value: Any) -> int | float:
    """Return a number of any type, numpy's too, as Python's; refuse what is out of range."""
    low, high, whole = metadata["low"], metadata["high"], metadata.get("whole", False)
    kind = numbers.Integral if whole else numbers.Real
    if isinstance(value, bool) or not isinstance(value, kind) or not low <= value <= high:
        raise ConfigurationError(
            f"{name} is {value!r}: it has to be a {'whole ' if whole else ''}number from {low:g} to {high:g}"
        )
    return operator.index(value) if isinstance(value, numbers.Integral) else float(value)
