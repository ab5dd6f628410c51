"""ROOT RDataFrame analyses on AWS Lambda, through Dask.

The names below are the public interface. They are imported when first used: the function's runtime
imports ``dask_root_lambda.protocol``, and must not pay for Dask, distributed or ROOT.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dask_root_lambda.cluster import LambdaCluster
    from dask_root_lambda.dashboard.link import steering_link
    from dask_root_lambda.execution.executor import LambdaExecutor
    from dask_root_lambda.fargate import FargateLambdaCluster
    from dask_root_lambda.gateway import LambdaPlugin
    from dask_root_lambda.rdf.estimating import estimate
    from dask_root_lambda.rdf.frame import RDataFrame
    from dask_root_lambda.rdf.live import partial_results

__version__ = "0.1.0"

__all__ = [
    "FargateLambdaCluster",
    "LambdaCluster",
    "LambdaExecutor",
    "LambdaPlugin",
    "RDataFrame",
    "__version__",
    "estimate",
    "partial_results",
    "steering_link",
]

_HOMES = {
    "FargateLambdaCluster": "dask_root_lambda.fargate",
    "LambdaCluster": "dask_root_lambda.cluster",
    "LambdaExecutor": "dask_root_lambda.execution.executor",
    "LambdaPlugin": "dask_root_lambda.gateway",
    "RDataFrame": "dask_root_lambda.rdf.frame",
    "estimate": "dask_root_lambda.rdf.estimating",
    "partial_results": "dask_root_lambda.rdf.live",
    "steering_link": "dask_root_lambda.dashboard.link",
}

_DOORS = ("FargateLambdaCluster", "LambdaCluster", "LambdaPlugin", "RDataFrame")
"""What these make ROOT's own functions take as well, from their import on."""

_WITHOUT_ROOT = ("LambdaExecutor", "steering_link")


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name not in _WITHOUT_ROOT and "ROOT" not in sys.modules:
        importlib.import_module("dask_root_lambda.ground").check()
    if name in _DOORS:
        importlib.import_module("dask_root_lambda.rdf.door").install()
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
