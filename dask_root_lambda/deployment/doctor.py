"""Whether a deployment can be used from here: one check after the other, each with what to do."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Literal

from dask_root_lambda import __version__
from dask_root_lambda.config import Settings
from dask_root_lambda.invocation import aws, discovery
from dask_root_lambda.invocation.cancellation import Cancellation
from dask_root_lambda.invocation.discovery import Deployment
from dask_root_lambda.invocation.emulated import EmulatedInvoker
from dask_root_lambda.invocation.invokers import AwsInvoker, Invocation
from dask_root_lambda.protocol import seal, wire
from dask_root_lambda.protocol.errors import (
    AccessError,
    DaskRootLambdaError,
    DeploymentError,
    NotReadyError,
    StoreError,
)
from dask_root_lambda.protocol.task import MAX_ENVELOPE_BYTES, Body, Request, Versions

_MAX_SKEW_S = 60.0
"""AWS refuses signatures that are 300 s off; a clock that is a minute off will be there some day."""

_WAKE_TIMEOUT_S = 300.0
"""AWS takes its time to bring back an image that was not invoked for weeks; it does not say how much."""
_WAKE_POLL_S = 3.0

Outcome = Literal["ok", "failed", "unknown"]


@dataclass(frozen=True)
class Check:
    """What was found."""

    name: str
    """What was looked at."""
    outcome: Outcome
    """``unknown`` where it could not be looked at, which is no failure."""
    said: str
    """What was found; of a failure also what to do."""


@dataclass(frozen=True)
class Reachable:
    """What the later checks need: it was found by the earlier ones."""

    settings: Settings
    """With function, alias and store."""
    session: aws.Session
    deployment: Deployment | None
    """None where a function is named instead."""

    @property
    def function(self) -> str:
        """Name or ARN of the function that runs would use."""
        return str(self.settings.function)


def examine(
    settings: Settings, files: Sequence[str] = (), tree: str = "", now_s: Callable[[], float] = time.time
) -> Iterator[Check]:
    """Look at everything that a run needs; stops where nothing more can be looked at.

    Parameters
    ----------
    settings
        What the user has set. Under ``emulated`` an emulator is started, and what AWS would have to allow is
        not looked at.
    files
        URLs of which functions read a range each.
    tree
        Name of the TTree or RNTuple in them; empty for the one with the most entries.
    now_s
        This machine's clock.
    """
    if settings.execution == "emulated":
        yield from _emulated(settings, files, tree)
        return
    try:
        session = aws.Session(settings)
        yield Check("region", "ok", session.region)
        identity = session.identity()
    except DaskRootLambdaError as error:
        yield from _refused(error, now_s())
        return
    yield Check("credentials", "ok", f"{identity.arn} at {session.endpoint or 'AWS'}")
    yield _clock(identity.date, now_s())
    found: list[Reachable] = []
    yield _attempt("deployment", lambda: _deployment(session, settings, found))
    yield _concurrency(session, settings, found[0].function if found else None)
    if found:
        yield from _functions(found[0], files, tree)


def _emulated(settings: Settings, files: Sequence[str], tree: str) -> Iterator[Check]:
    try:
        invoker = EmulatedInvoker(settings)
    except DaskRootLambdaError as error:
        yield Check("emulator", "failed", error.message)
        return
    yield Check("emulator", "ok", f"started, {invoker.tiers[0]} MB")
    yield from _runs(invoker, files, tree)


def _attempt(name: str, look: Callable[[], str]) -> Check:
    try:
        return Check(name, "ok", look())
    except DaskRootLambdaError as error:
        return Check(name, "failed", error.message)


def _refused(error: DaskRootLambdaError, now_s: float) -> Iterator[Check]:
    """Tell why AWS did not say who the user is: with a wrong clock, it refuses every signature."""
    clock = _clock(aws.date_of(error), now_s)
    if clock.outcome == "failed":
        yield clock
        yield Check("credentials", "unknown", "AWS can judge them when the clock is right")
    else:
        yield Check("credentials", "failed", error.message)


def _clock(date: str | None, now_s: float) -> Check:
    """Compare with the date in AWS's answer."""
    try:
        told = parsedate_to_datetime(date or "")
    except ValueError:
        return Check("clock", "unknown", "the endpoint does not tell the time")
    skew_s = now_s - told.replace(tzinfo=told.tzinfo or timezone.utc).timestamp()
    if abs(skew_s) <= _MAX_SKEW_S:
        return Check("clock", "ok", f"within {_MAX_SKEW_S:g} s of AWS's")
    here = datetime.fromtimestamp(now_s, timezone.utc).isoformat(timespec="seconds")
    direction = "ahead of" if skew_s > 0 else "behind"
    said = f"{abs(skew_s):,.0f} s {direction} AWS's (here it is {here}): set it, for example with NTP"
    return Check("clock", "failed", said)


def _concurrency(session: aws.Session, settings: Settings, function: str | None) -> Check:
    try:
        return Check("concurrency", "ok", _free(session, settings.limit("lambda"), function))
    except DaskRootLambdaError as error:
        # Runs do without this permission.
        return Check("concurrency", "unknown" if isinstance(error, AccessError) else "failed", error.message)


def _free(session: aws.Session, wanted: int, function: str | None) -> str:
    """Compare what is asked for with what is kept for the function, or with what nobody has reserved."""
    client, fewer = session.client("lambda"), "ask for less (dask-root-lambda.concurrency: {})"
    with aws.translated("the quota of concurrent executions cannot be read"):
        kept = (
            client.get_function_concurrency(FunctionName=discovery.unqualified(function)) if function else {}
        )
        reserved = kept.get("ReservedConcurrentExecutions")
        limits = client.get_account_settings()["AccountLimit"] if reserved is None else {}
    if reserved is not None and reserved < wanted:
        raise DeploymentError(
            f"{reserved:,} are reserved for the function, which can have no more, and {wanted:,} are asked "
            f"for: 'dask-root-lambda deploy --var reserved_concurrency={wanted}', or "
            f"{fewer.format(max(reserved, 1))}"
        )
    if reserved is not None:
        return f"{reserved:,} at once are reserved for the function, {wanted:,} are asked for"
    free = int(limits["UnreservedConcurrentExecutions"])
    if free < wanted:
        raise DeploymentError(
            f"{free:,} of the account's {int(limits['ConcurrentExecutions']):,} are not reserved, and "
            f"{wanted:,} are asked for: raise the quota 'Concurrent executions' of AWS Lambda in Service "
            f"Quotas, or {fewer.format(free)}"
        )
    return f"{free:,} at once are free to use, {wanted:,} are asked for"


def _deployment(session: aws.Session, settings: Settings, found: list[Reachable]) -> str:
    located, deployment = discovery.located(session, settings)
    found.append(Reachable(located, session, deployment))
    if deployment is None:
        return f"not looked up: the settings name the function {located.function!r}"
    said = f"{deployment.name}, deployed by dask-root-lambda {deployment.version}"
    if deployment.version != __version__:
        said += f"; this is {__version__}: deploy again when convenient"
    return said


def _functions(reachable: Reachable, files: Sequence[str], tree: str) -> Iterator[Check]:
    names = (
        [reachable.function] if reachable.deployment is None else list(reachable.deployment.tiers.values())
    )
    states = {name: _attempt(f"function {name}", partial(_state, reachable, name)) for name in names}
    yield from states.values()
    if reachable.function in states and states[reachable.function].outcome == "failed":
        return
    try:
        invoker = AwsInvoker(reachable.settings, session=reachable.session)
    except DaskRootLambdaError as error:
        yield Check("invocation", "failed", error.message)
        return
    yield from _runs(invoker, files, tree)


def _state(reachable: Reachable, name: str) -> str:
    which = {"FunctionName": name}
    if reachable.settings.qualifier:
        which["Qualifier"] = reachable.settings.qualifier
    with aws.translated(f"the function {name!r} cannot be used"):
        found = reachable.session.client("lambda").get_function_configuration(**which)
    state, reason = found.get("State", "Active"), found.get("StateReason", "AWS gives no reason")
    if state == "Pending":
        raise DeploymentError("is still being made: try again in a minute")
    if state not in ("Active", "Inactive"):
        raise DeploymentError(f"is {state}: {reason}; deploy again with 'dask-root-lambda deploy'")
    # AWS puts away images that nobody calls for weeks; the next call brings them back.
    idle = ", Inactive: its next call takes minutes" if state == "Inactive" else ""
    snapshot = ", SnapStart" if found.get("SnapStart", {}).get("OptimizationStatus") == "On" else ""
    return f"version {found['Version']}, {found['MemorySize']} MB, {found['Timeout']} s{snapshot}{idle}"


def _runs(invoker: AwsInvoker, files: Sequence[str], tree: str) -> Iterator[Check]:
    """Try what a run does, and close the invoker."""
    try:
        yield from _tried(invoker, files, tree)
    finally:
        invoker.close()


def _tried(invoker: AwsInvoker, files: Sequence[str], tree: str) -> Iterator[Check]:
    """Try what a run does: the store from here, the function, the store and the files from there."""
    store = _attempt("store", lambda: _store(invoker))
    yield store
    # Imported late: ROOT comes with it, and its version is what is compared.
    from dask_root_lambda.deployment import file_check
    from lambda_runtime.runner import ROOT_VERSION

    versions = Versions(root=ROOT_VERSION)
    answers = _attempt("versions", lambda: _versions(invoker, versions))
    yield answers
    if answers.outcome == "failed":
        return
    if store.outcome == "ok":
        yield _attempt("store, from the function", lambda: _store_there(invoker, versions))
    call = partial(_call, invoker, versions)
    for url in files:
        yield _attempt(f"file {url}", partial(file_check.read_range, invoker, call, url, tree))


def _store(invoker: AwsInvoker) -> str:
    store, key = invoker.store, f"doctor/{uuid.uuid4().hex}"
    store.put(key, b"written by dask-root-lambda doctor")
    store.get(key)
    store.delete([key])
    return f"{store.url} can be written, read and emptied"


def _store_there(invoker: AwsInvoker, versions: Versions) -> str:
    """Have the function read its task from the store, and write a result that is too large to be sent."""
    store, prefix = invoker.store, f"doctor/{uuid.uuid4().hex}"
    task, result = f"{prefix}/task", f"{prefix}/result"
    blob = wire.dumps((os.urandom, (MAX_ENVELOPE_BYTES,), {}))
    key = os.urandom(seal.KEY_BYTES)
    store.put(task, seal.sealed(key, task, blob))
    try:
        body = Body(key=task, size=len(blob))
        request = Request("call", "doctor", (body,), result_key=result, seal_key=key, versions=versions)
        _answered(invoker.invoke(request, Cancellation()))
        if store.put(result, b""):
            raise StoreError(f"what the function has written is not in {store.url}: see its store")
    finally:
        store.delete([task, result])
    return "read and written"


def _versions(invoker: AwsInvoker, versions: Versions) -> str:
    began_s = time.monotonic()
    invocation = _woken(lambda: _call(invoker, versions, (abs, (-1,), {})))
    took_s = time.monotonic() - began_s
    start = "a cold start" if invocation.billing.cold else "warm"
    return (
        f"Python {versions.python}, ROOT {versions.root} on both sides; answered in {took_s:.1f} s, {start}"
    )


def _woken(invoke: Callable[[], Invocation]) -> Invocation:
    """Invoke again until the function is there."""
    deadline_s = time.monotonic() + _WAKE_TIMEOUT_S
    while True:
        try:
            return invoke()
        except NotReadyError:
            if time.monotonic() > deadline_s:
                raise
        time.sleep(_WAKE_POLL_S)


def _call(invoker: AwsInvoker, versions: Versions, call: tuple[object, ...]) -> Invocation:
    request = Request("call", "doctor", (Body.of(wire.dumps(call)),), versions=versions)
    return _answered(invoker.invoke(request, Cancellation()))


def _answered(invocation: Invocation) -> Invocation:
    if invocation.error is not None:
        raise invocation.error
    return invocation
