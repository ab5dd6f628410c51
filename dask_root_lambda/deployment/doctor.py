"""Whether a deployment can be used from here: one check after the other, each with what to do."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Literal

from dask_root_lambda import __version__, aws, discovery
from dask_root_lambda.cancellation import Cancellation
from dask_root_lambda.config import Settings
from dask_root_lambda.discovery import Deployment
from dask_root_lambda.invoker import AwsInvoker, Invocation
from dask_root_lambda.protocol import wire
from dask_root_lambda.protocol.errors import AccessError, DaskRootLambdaError, DeploymentError
from dask_root_lambda.protocol.task import Body, Request, Versions

_MAX_SKEW_S = 60.0
"""AWS refuses signatures that are 300 s off; a clock that is a minute off will be there some day."""

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
class Patient:
    """What the later checks need: it was found by the earlier ones."""

    settings: Settings
    """With function, alias and store."""
    session: aws.Session
    deployment: Deployment | None
    """None where a function is named instead."""
    invoker: AwsInvoker


def examine(
    settings: Settings, files: Sequence[str] = (), now_s: Callable[[], float] = time.time
) -> Iterator[Check]:
    """Look at everything that a run needs; stops where nothing more can be looked at.

    Parameters
    ----------
    settings
        What the user has set.
    files
        URLs that functions should be able to read.
    now_s
        This machine's clock.
    """
    try:
        session = aws.Session(settings)
        yield Check("region", "ok", session.region)
        identity = session.identity()
    except DaskRootLambdaError as error:
        yield Check("credentials", "failed", error.message)
        return
    yield Check("credentials", "ok", f"{identity.arn} at {session.endpoint or 'AWS'}")
    yield _clock(identity.date, now_s())
    yield _attempt("concurrency", lambda: _concurrency(session, settings))
    found: list[Patient] = []
    yield _attempt("deployment", lambda: _deployment(session, settings, found))
    if not found:
        return
    (patient,) = found
    try:
        yield from _function(patient, files)
    finally:
        patient.invoker.close()


def _attempt(name: str, look: Callable[[], str]) -> Check:
    try:
        return Check(name, "ok", look())
    except DaskRootLambdaError as error:
        return Check(name, "failed", error.message)


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


def _concurrency(session: aws.Session, settings: Settings) -> str:
    wanted = settings.limit("lambda")
    try:
        with aws.translated("the quota of concurrent executions cannot be read"):
            limits = session.client("lambda").get_account_settings()["AccountLimit"]
    except AccessError:
        return "not known: the credentials may not call lambda:GetAccountSettings"
    free = int(limits["UnreservedConcurrentExecutions"])
    if free < wanted:
        raise DeploymentError(
            f"{free:,} of the account's {int(limits['ConcurrentExecutions']):,} are not reserved, and "
            f"{wanted:,} are asked for: raise the quota 'Concurrent executions' of AWS Lambda in Service "
            f"Quotas, or ask for less (dask-root-lambda.concurrency: {free})"
        )
    return f"{free:,} at once are free to use, {wanted:,} are asked for"


def _deployment(session: aws.Session, settings: Settings, found: list[Patient]) -> str:
    located, deployment = discovery.located(session, settings)
    invoker = AwsInvoker(located, session=session)
    found.append(Patient(located, session, deployment, invoker))
    if deployment is None:
        return f"not looked up: the settings name the function {located.function!r}"
    said = f"{deployment.name}, deployed by dask-root-lambda {deployment.version}"
    if deployment.version != __version__:
        said += f"; this is {__version__}: deploy again when convenient"
    return said


def _function(patient: Patient, files: Sequence[str]) -> Iterator[Check]:
    deployment, function = patient.deployment, str(patient.settings.function)
    names = [function] if deployment is None else list(deployment.tiers.values())
    states = [_attempt(f"function {name}", partial(_state, patient, name)) for name in names]
    yield from states
    yield _attempt("store", lambda: _store(patient))
    if any(state.outcome == "failed" for state in states):
        return
    # Imported late: ROOT comes with it, and its version is what is compared.
    from lambda_runtime.files import identify
    from lambda_runtime.runner import ROOT_VERSION

    versions = Versions(root=ROOT_VERSION)
    yield _attempt("versions", lambda: _versions(patient, versions))
    for url in files:
        yield _attempt(f"file {url}", partial(_file, patient, versions, identify, url))


def _state(patient: Patient, name: str) -> str:
    which = {"FunctionName": name}
    if patient.settings.qualifier:
        which["Qualifier"] = patient.settings.qualifier
    with aws.translated(f"the function {name!r} cannot be used"):
        found = patient.session.client("lambda").get_function_configuration(**which)
    state, reason = found.get("State", "Active"), found.get("StateReason", "AWS gives no reason")
    if state == "Pending":
        raise DeploymentError("is still being made: try again in a minute")
    if state != "Active":
        raise DeploymentError(f"is {state}: {reason}; deploy again with 'dask-root-lambda deploy'")
    snapshot = ", SnapStart" if found.get("SnapStart", {}).get("OptimizationStatus") == "On" else ""
    return f"version {found['Version']}, {found['MemorySize']} MB, {found['Timeout']} s{snapshot}"


def _store(patient: Patient) -> str:
    store, key = patient.invoker.store, f"doctor/{uuid.uuid4().hex}"
    store.put(key, b"written by dask-root-lambda doctor")
    store.get(key)
    store.delete([key])
    return f"{store.url} can be written, read and emptied"


def _versions(patient: Patient, versions: Versions) -> str:
    began_s = time.monotonic()
    invocation = _call(patient, versions, (abs, (-1,), {}))
    if invocation.error is not None:
        raise invocation.error
    took_s = time.monotonic() - began_s
    start = "a cold start" if invocation.billing.cold else "warm"
    return (
        f"Python {versions.python}, ROOT {versions.root} on both sides; answered in {took_s:.1f} s, {start}"
    )


def _file(patient: Patient, versions: Versions, identify: Callable[[str], object], url: str) -> str:
    invocation = _call(patient, versions, (identify, (url,), {}))
    if invocation.error is not None:
        raise invocation.error
    assert invocation.reply is not None
    assert invocation.reply.body is not None
    assert invocation.reply.body.inline is not None
    size = wire.loads(invocation.reply.body.inline).size
    return f"{size:,} bytes, opened in {invocation.billing.duration_s:.1f} s"


def _call(patient: Patient, versions: Versions, call: tuple[object, ...]) -> Invocation:
    request = Request("call", "doctor", (Body.of(wire.dumps(call)),), versions=versions)
    return patient.invoker.invoke(request, Cancellation())
