"""What is deployed, and what it costs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone

from dask_root_lambda import state_home
from dask_root_lambda.config import Settings
from dask_root_lambda.cost.prices import prices_of
from dask_root_lambda.invocation import aws, discovery, journal
from dask_root_lambda.invocation.discovery import Deployment
from dask_root_lambda.invocation.journal import Spent

_MONTH_S = 30.4 * 86_400


@dataclass(frozen=True)
class FunctionStatus:
    """A function of one memory tier."""

    name: str
    memory_mb: int
    """MB of 2^20 bytes."""
    version: str
    """That the alias is on."""
    state: str
    """As AWS says: Active, Pending, Failed, Inactive."""
    modified: str
    """When the version was made, as AWS writes it."""
    snapstart: bool
    """Whether AWS keeps a snapshot of it."""


@dataclass(frozen=True)
class Status:
    """A deployment as it is now."""

    account: str
    deployment: Deployment
    functions: tuple[FunctionStatus, ...]
    idle_usd_per_month: float
    """List price of the snapshots; what else is kept costs cents."""
    month: str
    """The current one, in UTC."""
    spent: Spent
    """In it, by this user's runs from this machine."""


def look(session: aws.Session, settings: Settings, now: datetime | None = None) -> Status:
    """Ask AWS and the journal.

    Raises
    ------
    DeploymentNotFoundError, AccessError, UnreachableError
        There is nothing to tell, and why.
    """
    deployment = discovery.find(session, settings.deployment)
    account = session.identity().account
    functions = tuple(_function(session, name, deployment.qualifier) for name in deployment.tiers.values())
    prices = prices_of(session.region, own=settings.prices)
    kept = sum(prices.standing_usd_per_s(each.memory_mb) for each in functions if each.snapstart)
    start = journal.month_start(now or datetime.now(timezone.utc))
    place = state_home.directory(account, session.region, deployment.name, session.endpoint)
    return Status(
        account=account,
        deployment=deployment,
        functions=functions,
        idle_usd_per_month=kept * _MONTH_S,
        month=start.strftime("%Y-%m"),
        spent=journal.spent_since(place / journal.FILE, start),
    )


def _function(session: aws.Session, name: str, qualifier: str) -> FunctionStatus:
    with aws.translated(f"the function {name!r} cannot be looked at"):
        found = session.client("lambda").get_function_configuration(FunctionName=name, Qualifier=qualifier)
    return FunctionStatus(
        name=name,
        memory_mb=int(found["MemorySize"]),
        version=str(found["Version"]),
        state=str(found.get("State", "Active")),
        modified=str(found.get("LastModified", "")),
        snapstart=found.get("SnapStart", {}).get("OptimizationStatus") == "On",
    )
