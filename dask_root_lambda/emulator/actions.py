"""Which IAM action a request is, and on which resource.

Source: https://docs.aws.amazon.com/service-authorization/latest/reference/reference.html.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, unquote
from xml.sax.saxutils import unescape

from dask_root_lambda.emulator.endpoint import Request
from dask_root_lambda.emulator.errors import ApiError
from dask_root_lambda.emulator.registry import Reference, parse_name
from dask_root_lambda.emulator.routes import find_route

# Operations of Lambda that are called otherwise in policies, or are about no one function.
_LAMBDA_ACTIONS = {"Invoke": "InvokeFunction", "InvokeAsync": "InvokeFunction"}

# Services that sign under another name than policies have for them.
_PREFIXES = {"monitoring": "cloudwatch"}

# Parts of a bucket's settings, as the query names them, and as policies do.
_BUCKET_PARTS = {
    "acl": "BucketAcl", "cors": "BucketCORS", "encryption": "EncryptionConfiguration",
    "lifecycle": "LifecycleConfiguration", "location": "BucketLocation", "logging": "BucketLogging",
    "notification": "BucketNotification", "policy": "BucketPolicy", "tagging": "BucketTagging",
    "versioning": "BucketVersioning", "website": "BucketWebsite",
    "publicAccessBlock": "BucketPublicAccessBlock", "ownershipControls": "BucketOwnershipControls",
    "replication": "ReplicationConfiguration", "accelerate": "AccelerateConfiguration",
    "requestPayment": "BucketRequestPayment",
    "object-lock": "BucketObjectLockConfiguration", "policyStatus": "BucketPolicyStatus",
}  # fmt: skip


_KEY = re.compile(r"<Key>(.*?)</Key>", re.DOTALL)


@dataclass(frozen=True)
class Demand:
    """What a request needs permission for."""

    action: str
    """As in ``s3:GetObject``; empty if it cannot be told."""
    resource: str | None
    """ARN; None if it cannot be told."""


def demands_of(request: Request, service: str, region: str, account_id: str) -> list[Demand]:
    """Tell what a request needs permission for: one action, on one resource or on several."""
    if service == "s3" and request.method == "POST" and _is_deletion(request):
        return _of_deletion(request)
    return [_demand_of(request, service, region, account_id)]


def _demand_of(request: Request, service: str, region: str, account_id: str) -> Demand:
    if service == "lambda":
        return _of_lambda(request, region, account_id)
    if service == "s3":
        return _of_s3(request)
    operation, parameters = _operation(request)
    if not operation:
        return Demand("", None)
    service = _PREFIXES.get(service, service)
    find = _RESOURCES.get(service)
    prefix = f"arn:aws:{service}:{region}:{account_id}:"
    return Demand(f"{service}:{operation}", find(parameters, prefix) if find else None)


def _of_lambda(request: Request, region: str, account_id: str) -> Demand:
    try:
        route, parameters = find_route(request.method, request.path, request.query)
        action = f"lambda:{_LAMBDA_ACTIONS.get(route.operation, route.operation)}"
        name = parameters.get("FunctionName") or parameters.get("Resource")
        if name is None:
            return Demand(action, None)
        qualifier = parse_qs(request.query).get("Qualifier", [None])[0]
        reference = parse_name(name, qualifier)
    except ApiError:
        # What is no operation, or names no function, is refused by the service itself.
        return Demand("", None)
    return Demand(action, function_arn(reference, region, account_id))


def function_arn(reference: Reference, region: str, account_id: str) -> str:
    """ARN of a function as policies name it."""
    end = f":{reference.qualifier}" if reference.qualifier else ""
    place = f"{reference.region or region}:{reference.account or account_id}"
    return f"arn:aws:lambda:{place}:function:{reference.name}{end}"


def _of_s3(request: Request) -> Demand:
    bucket, _, key = unquote(request.path.lstrip("/")).partition("/")
    parts = set(parse_qs(request.query, keep_blank_values=True))
    if not bucket:
        return Demand("s3:ListAllMyBuckets", None)
    if key:
        return Demand(f"s3:{_object_action(request.method, parts)}", f"arn:aws:s3:::{bucket}/{key}")
    return Demand(f"s3:{_bucket_action(request.method, parts)}", f"arn:aws:s3:::{bucket}")


def _is_deletion(request: Request) -> bool:
    return "delete" in parse_qs(request.query, keep_blank_values=True)


def _of_deletion(request: Request) -> list[Demand]:
    """Many objects in one request: AWS asks for each, and refuses those that may not be deleted."""
    bucket = unquote(request.path.strip("/"))
    keys = [unescape(key) for key in _KEY.findall(request.body.decode(errors="replace"))]
    return [Demand("s3:DeleteObject", f"arn:aws:s3:::{bucket}/{key}") for key in keys or ["*"]]


def _object_action(method: str, parts: set[str]) -> str:
    verb = {"GET": "Get", "HEAD": "Get", "DELETE": "Delete"}.get(method, "Put")
    if "uploadId" in parts and method in ("GET", "DELETE"):
        return "ListMultipartUploadParts" if method == "GET" else "AbortMultipartUpload"
    suffix = "Tagging" if "tagging" in parts else "Acl" if "acl" in parts else ""
    return f"{verb}Object{suffix}"


def _bucket_action(method: str, parts: set[str]) -> str:
    known = sorted(parts.intersection(_BUCKET_PARTS))
    if known:
        verb = "Get" if method == "GET" else "Put"
        return f"{verb}{_BUCKET_PARTS[known[0]]}"
    if method == "GET" and "uploads" in parts:
        return "ListBucketMultipartUploads"
    if method == "GET" and "versions" in parts:
        return "ListBucketVersions"
    return {"PUT": "CreateBucket", "DELETE": "DeleteBucket"}.get(method, "ListBucket")


def _operation(request: Request) -> tuple[str, Mapping[str, Any]]:
    """Find operation and parameters of the services that take them in the body."""
    target = request.headers.get("x-amz-target", "")
    if target:
        return target.rpartition(".")[2], _json(request.body)
    form = parse_qs(request.body.decode("latin-1"))
    parameters = {name: values[0] for name, values in form.items()}
    return parameters.get("Action", ""), parameters


def _json(body: bytes) -> Mapping[str, Any]:
    try:
        document = json.loads(body or b"{}")
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _queue(parameters: Mapping[str, Any], prefix: str) -> str | None:
    name = parameters.get("QueueName") or str(parameters.get("QueueUrl", "")).rpartition("/")[2]
    return prefix + name if name else None


def _log_group(parameters: Mapping[str, Any], prefix: str) -> str | None:
    name = parameters.get("logGroupName")
    return f"{prefix}log-group:{name}:*" if name else None


def _parameter(parameters: Mapping[str, Any], prefix: str) -> str | None:
    name = parameters.get("Name") or parameters.get("Path")
    return f"{prefix}parameter/{str(name).lstrip('/')}" if name else None


def _secret(parameters: Mapping[str, Any], prefix: str) -> str | None:
    name = parameters.get("SecretId")
    if name is None or str(name).startswith("arn:"):
        return name
    # AWS adds six random letters, which policies match with a wildcard.
    return f"{prefix}secret:{name}-AbCdEf"


_RESOURCES: dict[str, Callable[[Mapping[str, Any], str], str | None]] = {
    "sqs": _queue,
    "logs": _log_group,
    "ssm": _parameter,
    "secretsmanager": _secret,
}
