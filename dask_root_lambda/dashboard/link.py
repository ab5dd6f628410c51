"""The link to the page, with the right to steer."""

from __future__ import annotations

from distributed import Client

from dask_root_lambda.dashboard.scheduler import SECRET_OPERATION
from dask_root_lambda.protocol.errors import ConfigurationError


def steering_link(client: Client) -> str:
    """Return the URL of the dashboard's page "Lambda" with the right to steer.

    For any cluster whose workers have the executor; a `LambdaCluster` has a method of this name. The
    link lets its holder change where ranges run and what they may cost, and stop them: keep it to yourself.

    Parameters
    ----------
    client
        Of the cluster.

    Raises
    ------
    ConfigurationError
        The cluster has no dashboard, or no worker with the executor.
    """
    return link(client.dashboard_link, client.sync(_ask, client))


async def _ask(client: Client) -> str | None:
    try:
        secret: str = await getattr(client.scheduler, SECRET_OPERATION)()
    except (AttributeError, KeyError, ValueError):
        return None
    return secret


def link(dashboard_link: str | None, secret: str | None) -> str:
    """Make the URL of that of any page of the dashboard.

    Raises
    ------
    ConfigurationError
        The cluster has no dashboard, or no secret.
    """
    if not dashboard_link or secret is None:
        raise ConfigurationError(
            "there is no page to steer from: it needs Dask's dashboard, and a worker with the executor"
        )
    return f"{dashboard_link.rpartition('/')[0]}/lambda#secret={secret}"
