"""The Dask scheduler and the gateway in AWS, beside the functions: on Fargate, through dask-cloudprovider."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from distributed import Client

from dask_root_lambda.config import Settings
from dask_root_lambda.dashboard.link import link
from dask_root_lambda.dashboard.scheduler import SECRET_OPERATION
from dask_root_lambda.gateway import LambdaPlugin, slots
from dask_root_lambda.protocol.errors import ConfigurationError

try:
    from dask_cloudprovider.aws import FargateCluster
except ImportError:  # the package can be looked at without it, as help() and import * do
    FargateCluster = object

_PRELOAD = ("--preload", "lambda_runtime.runner")
"""Workers import ROOT first of all, which has to know of threads before there are any."""


_PRELOAD_PAGE = ("--preload", "dask_root_lambda.dashboard.preload")
"""The scheduler lists the page "Lambda" among Dask's own."""


class FargateLambdaCluster(FargateCluster):  # type: ignore[misc]  # dask-cloudprovider has no types
    """A Dask cluster on AWS Fargate whose tasks run on AWS Lambda.

    The scheduler is one task, and the gateway, which invokes functions and merges their results, another:
    partial results do not leave the region. `LambdaPlugin` is registered, so every worker that joins has
    the executor. The cluster ends with this object, and by itself when no client was there for five minutes.

    Parameters
    ----------
    image
        The cluster's image, made from the function's by ``lambda_runtime/cluster.Dockerfile``: the same
        Python, ROOT and code.
    region
        AWS region; that of the functions, which should be that of the data.
    security_groups
        Who reaches the scheduler. There is no default: dask-cloudprovider's own admits everybody, and
        whoever reaches a scheduler can run code with the rights of its tasks.
    policies
        ARNs of policies for the tasks' role; the deployment's policy for users is what they need. Not used
        with ``task_role_arn``.
    concurrency
        Invocations in flight at most.
    deployment
        Name of the deployment whose function is used; ``dask-root-lambda.aws.deployment`` if None.
    function
        Name or ARN of another function.
    merge_threads
        Threads of the gateway that merge partial results.
    public
        Whether the tasks have public addresses. Without, their subnets need a way to ECR and Lambda.
    **kwargs
        Passed on to `dask_cloudprovider.aws.FargateCluster`; what is given here wins over our defaults.

    Raises
    ------
    ConfigurationError
        No security group, or neither policies nor a role; a setting that cannot be used.

    Examples
    --------
    >>> with FargateLambdaCluster(  # doctest: +SKIP
    ...     image="123456789012.dkr.ecr.eu-west-1.amazonaws.com/dask-root-lambda:0a1b2c-cluster",
    ...     region="eu-west-1",
    ...     security_groups=["sg-0123"],
    ...     policies=["arn:aws:iam::123456789012:policy/dask-root-lambda-eu-west-1-users"],
    ... ) as cluster, Client(cluster):
    ...     n = RDataFrame("Events", "root://...").Count().GetValue()
    """

    def __init__(
        self,
        image: str,
        region: str,
        *,
        security_groups: Sequence[str],
        policies: Sequence[str] = (),
        concurrency: int | None = None,
        deployment: str | None = None,
        function: str | None = None,
        merge_threads: int | None = None,
        public: bool = False,
        **kwargs: Any,
    ) -> None:
        if FargateCluster is object:
            raise ConfigurationError(
                "a cluster on Fargate needs dask-cloudprovider: pip install 'dask-root-lambda[fargate]'"
            )
        if not security_groups:
            raise ConfigurationError(
                "security_groups is empty: name groups that let only you reach ports 8786 and 8787"
            )
        if not policies and not kwargs.get("task_role_arn"):
            raise ConfigurationError(
                "the tasks would not be allowed to invoke the function: give the ARN of the deployment's "
                "policy for users as policies=[ARN], or a role as task_role_arn"
            )
        settings = Settings.resolve(
            execution="lambda",
            region=region,
            deployment=deployment,
            function=function,
            concurrency=concurrency,
            merge_threads=merge_threads,
        )
        # The profile makes the cluster; the tasks have a role, and no such profile.
        self._profile, self._settings = settings.profile, replace(settings, profile=None)
        self._made: set[str] = set()
        options = {
            "n_workers": 1,
            "worker_nthreads": slots(settings.limit("lambda")),
            "worker_cpu": 4096,
            "worker_mem": 16384,
            "task_role_policies": list(policies),
            "environment": {"AWS_REGION": region, "AWS_DEFAULT_REGION": region},
            # It would look through the whole account, and remove what others have left.
            "skip_cleanup": True,
            **kwargs,
            # Behind the user's: dask-cloudprovider takes the second of all for the value of a --port.
            "scheduler_extra_args": [*kwargs.get("scheduler_extra_args", ()), *_PRELOAD_PAGE],
            "worker_extra_args": [*_PRELOAD, *kwargs.get("worker_extra_args", ())],
        }
        super().__init__(
            image=image,
            region_name=region,
            security_groups=list(security_groups),
            fargate_use_private_ip=not public,
            **options,
        )

    def steering_link(self) -> Any:
        """Return the URL of the dashboard's page "Lambda" with the right to steer: keep it to yourself."""
        return self.sync(self._steering_link)

    async def _steering_link(self) -> str:
        return link(self.dashboard_link, await getattr(self.scheduler_comm, SECRET_OPERATION)())

    async def _start(self) -> None:
        if self._profile is not None:
            self.session.set_config_variable("profile", self._profile)
        try:
            await super()._start()
            await self._register()
        except BaseException:
            # Nobody has the object yet: what was made would stay, and tasks cost money.
            await self._close()
            raise

    async def _register(self) -> None:
        plugin = LambdaPlugin(settings=self._settings, limit_merges=True)
        address, security = self.scheduler_comm.address, self.security
        async with Client(address, asynchronous=True, security=security, set_as_default=False) as client:
            await client.register_plugin(plugin)

    async def _close(self) -> None:
        try:
            await super()._close()
        finally:
            await self._delete()

    async def _delete(self) -> None:
        """Delete what dask-cloudprovider leaves to the interpreter's end, where its clients do not work."""
        await self._delete_scheduler_task_definition_arn()
        await self._delete_worker_task_definition_arn()
        for role in (self._execution_role_name, self._task_role_name):
            await self._delete_role(role)
        await self._delete_cluster()

    # What was made is deleted once, and what was not made by this object never.

    async def _create_cluster(self) -> str:
        return self._note("cluster", await super()._create_cluster())

    async def _create_execution_role(self) -> str:
        return self._note(self._execution_role_name, await super()._create_execution_role())

    async def _create_task_role(self) -> str:
        return self._note(self._task_role_name, await super()._create_task_role())

    async def _create_scheduler_task_definition_arn(self) -> str:
        return self._note("scheduler", await super()._create_scheduler_task_definition_arn())

    async def _create_worker_task_definition_arn(self) -> str:
        return self._note("worker", await super()._create_worker_task_definition_arn())

    async def _delete_cluster(self) -> None:
        if self._strike("cluster"):
            await super()._delete_cluster()

    async def _delete_role(self, role: str) -> None:
        if self._strike(role):
            await super()._delete_role(role)

    async def _delete_scheduler_task_definition_arn(self) -> None:
        if self._strike("scheduler"):
            await super()._delete_scheduler_task_definition_arn()

    async def _delete_worker_task_definition_arn(self) -> None:
        if self._strike("worker"):
            await super()._delete_worker_task_definition_arn()

    def _note(self, name: str, arn: str) -> str:
        """Remember that something was made."""
        self._made.add(name)
        return arn

    def _strike(self, name: str) -> bool:
        """Tell whether something is there to be deleted, for the last time."""
        there = name in self._made
        self._made.discard(name)
        return there
