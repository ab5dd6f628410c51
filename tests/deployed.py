"""What Terraform makes of a deployment, as far as clients look: for tests that need no Terraform."""

from __future__ import annotations

import json
import uuid

import boto3

from dask_root_lambda import __version__
from dask_root_lambda.invocation.function import STORE_VARIABLE

ROLE = "arn:aws:iam::123456789012:role/tests"


def make_function(name, **settings):
    """A function with a published version behind the alias ``live``."""
    client = boto3.client("lambda")
    client.create_function(
        FunctionName=name,
        Role=ROLE,
        PackageType="Image",
        Code={"ImageUri": "image:1"},
        Timeout=60,
        Publish=True,
        **{"MemorySize": 1769, **settings},
    )
    client.create_alias(FunctionName=name, Name="live", FunctionVersion="1")


def make_deployment(*, with_bucket=True, with_function=True, settings=None, **changes):
    """A deployment of a name of its own, with other parameters than usual where asked; returns its name."""
    name = f"d-{uuid.uuid4().hex[:8]}"
    if with_bucket:
        boto3.client("s3").create_bucket(Bucket=name)
    if with_function:
        variables = {"Variables": {STORE_VARIABLE: f"s3://{name}/partial"}}
        make_function(name, **{"Environment": variables, **(settings or {})})
    values = {
        "function": name,
        "qualifier": "live",
        "bucket": name,
        "store": f"s3://{name}/partial",
        "log-group": f"/aws/lambda/{name}",
        "image": "image:1",
        "memory-mb": "1769",
        "tiers": json.dumps({"1769": name}),
        "region": "us-east-1",
        "version": __version__,
        **changes,
    }
    for key, value in values.items():
        if value is not None:
            path = f"/dask-root-lambda/{name}/{key}"
            boto3.client("ssm").put_parameter(Name=path, Value=value, Type="String")
    return name
