"""The module of policies, applied to an AWS that enforces them, with what they are about."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dask_root_lambda import __version__
from dask_root_lambda.emulator import Emulator

from ..emulator.clouds import clients_of
from .permissions import ACCOUNT, BUCKET, FUNCTION, NAME, REGION, ROLE

ROOT_MODULE = f"""
provider "aws" {{
  region = "{REGION}"
}}

module "access" {{
  source        = "./access"
  name          = "{NAME}"
  region        = "{REGION}"
  account       = "{ACCOUNT}"
  partition     = "aws"
  bucket_arn    = "arn:aws:s3:::{BUCKET}"
  prefix        = "partial"
  far_prefix    = "far"
  input_buckets = ["open-data"]
  output_buckets = ["skims"]
  function_arns = ["{FUNCTION}", "{FUNCTION}-3538"]
  alias         = "live"
  log_group     = "/dask-root-lambda/{NAME}"
  parameter     = "/dask-root-lambda/{NAME}"
  token_secret  = true
}}

output "role_arn" {{
  value = module.access.role_arn
}}

output "user_policy_arn" {{
  value = module.access.user_policy_arn
}}

output "token_secret_arn" {{
  value = module.access.token_secret_arn
}}
"""


PARAMETERS = {
    "function": NAME,
    "qualifier": "live",
    "bucket": BUCKET,
    "store": f"s3://{BUCKET}/partial",
    "log-group": f"/dask-root-lambda/{NAME}",
    "image": f"{NAME}:1",
    "memory-mb": "1769",
    "tiers": json.dumps({"1769": NAME}),
    "region": REGION,
    "version": __version__,
}
"""Of the deployment, as infra/ leaves them."""


@dataclass(frozen=True)
class Access:
    """The applied module, in an AWS that enforces it."""

    emulator: Emulator
    root: Callable[[str], Any]
    """Clients that may do everything."""
    user: Callable[[str], Any]
    """Clients of a user who has the users' policy and no other."""
    user_keys: tuple[str, str]
    role_policies: list[dict[str, Any]]
    user_policies: list[dict[str, Any]]
    secret: str
    """ARN."""


def keyed(emulator: Emulator, keys: tuple[str, str]) -> Callable[[str], Any]:
    return clients_of(emulator, aws_access_key_id=keys[0], aws_secret_access_key=keys[1])


def look(emulator: Emulator, outputs: dict[str, Any]) -> Access:
    """Read the policies back from IAM, and give the users' one to a user."""
    root = keyed(emulator, (emulator.access_key_id, emulator.secret_access_key))
    iam, arn, role = root("iam"), outputs["user_policy_arn"], outputs["role_arn"].rpartition("/")[2]
    (name,) = iam.list_role_policies(RoleName=role)["PolicyNames"]
    assert iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"] == []
    version = iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
    iam.create_user(UserName="physicist")
    iam.attach_user_policy(UserName="physicist", PolicyArn=arn)
    key = iam.create_access_key(UserName="physicist")["AccessKey"]
    keys = (key["AccessKeyId"], key["SecretAccessKey"])
    return Access(
        emulator=emulator,
        root=root,
        user=keyed(emulator, keys),
        user_keys=keys,
        role_policies=[iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]],
        user_policies=[iam.get_policy_version(PolicyArn=arn, VersionId=version)["PolicyVersion"]["Document"]],
        secret=outputs["token_secret_arn"],
    )


def surround(access: Access) -> None:
    """Make what the policies are about, and the same of others."""
    s3, client, ssm = access.root("s3"), access.root("lambda"), access.root("ssm")
    for bucket in (BUCKET, "skims", "of-others"):
        place = {"LocationConstraint": REGION}
        s3.create_bucket(Bucket=bucket, CreateBucketConfiguration=place)
    for name in (NAME, f"{NAME}-of-others"):
        client.create_function(
            FunctionName=name,
            Role=ROLE,
            PackageType="Image",
            Code={"ImageUri": f"{name}:1"},
            MemorySize=1769,
            Timeout=60,
            Environment={"Variables": {"DASK_ROOT_LAMBDA_STORE": f"s3://{BUCKET}/partial"}},
            LoggingConfig={"LogFormat": "JSON", "LogGroup": f"/dask-root-lambda/{NAME}"},
            Publish=True,
        )
        client.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    for name, value in PARAMETERS.items():
        ssm.put_parameter(Name=f"/dask-root-lambda/{NAME}/{name}", Value=value, Type="String")
    ssm.put_parameter(Name="/of-others/password", Value="x", Type="String")
    access.root("logs").create_log_group(logGroupName=f"/dask-root-lambda/{NAME}")
    access.root("secretsmanager").put_secret_value(SecretId=access.secret, SecretString="token")


def clean(access: Access) -> None:
    """Emulators of one process share moto, so nothing may be left in it for other tests."""
    iam, s3, ssm = access.root("iam"), access.root("s3"), access.root("ssm")
    (policy,) = iam.list_attached_user_policies(UserName="physicist")["AttachedPolicies"]
    iam.detach_user_policy(UserName="physicist", PolicyArn=policy["PolicyArn"])
    iam.delete_access_key(UserName="physicist", AccessKeyId=access.user_keys[0])
    iam.delete_user(UserName="physicist")
    for bucket in (BUCKET, "skims", "of-others"):
        for item in s3.list_objects_v2(Bucket=bucket).get("Contents", []):
            s3.delete_object(Bucket=bucket, Key=item["Key"])
        s3.delete_bucket(Bucket=bucket)
    for name in (*(f"/dask-root-lambda/{NAME}/{name}" for name in PARAMETERS), "/of-others/password"):
        ssm.delete_parameter(Name=name)
    for group in access.root("logs").describe_log_groups()["logGroups"]:
        if NAME in group["logGroupName"]:
            access.root("logs").delete_log_group(logGroupName=group["logGroupName"])
