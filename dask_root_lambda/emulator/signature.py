"""AWS signatures, version 4: whether a request is from whom it says.

Source: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote, unquote

from dask_root_lambda.emulator.endpoint import Request

ALGORITHM = "AWS4-HMAC-SHA256"
UNSIGNED = "UNSIGNED-PAYLOAD"

_FIELD = re.compile(r"(Credential|SignedHeaders|Signature)=([^, ]+)")
_SPACES = re.compile(r" +")


@dataclass(frozen=True)
class Signature:
    """What a request says about its sender."""

    access_key_id: str
    """Who signed."""
    date: str
    """Of the scope: YYYYMMDD."""
    region: str
    """Of the scope."""
    service: str
    """Of the scope."""
    timestamp: str
    """When: YYYYMMDDTHHMMSSZ."""
    session_token: str
    """Of temporary credentials; else empty."""
    signed_headers: tuple[str, ...]
    """In lower case, sorted."""
    value: str
    """Hexadecimal."""
    in_query: bool
    """Whether the URL carries it: a presigned URL."""


def read_signature(request: Request) -> Signature | None:
    """Read the signature of a request; None if it has none that can be read."""
    query = dict(parse_qsl(request.query, keep_blank_values=True))
    if "X-Amz-Signature" in query:
        parts = {
            "Credential": query.get("X-Amz-Credential", ""),
            "SignedHeaders": query.get("X-Amz-SignedHeaders", ""),
            "Signature": query["X-Amz-Signature"],
        }
        timestamp, token = query.get("X-Amz-Date", ""), query.get("X-Amz-Security-Token", "")
    else:
        parts = dict(_FIELD.findall(request.headers.get("authorization", "")))
        timestamp = request.headers.get("x-amz-date", "")
        token = request.headers.get("x-amz-security-token", "")
    scope = unquote(parts.get("Credential", "")).split("/")
    if len(parts) != 3 or len(scope) != 5:
        return None
    access_key_id, date, region, service, _ = scope
    return Signature(
        access_key_id=access_key_id,
        date=date,
        region=region,
        service=service,
        timestamp=timestamp,
        session_token=token,
        signed_headers=tuple(parts["SignedHeaders"].split(";")),
        value=parts["Signature"],
        in_query="X-Amz-Signature" in query,
    )


def verify(request: Request, signature: Signature, secret_access_key: str) -> bool:
    """Tell whether a request was signed with a secret, and not changed since."""
    hashed = request.headers.get("x-amz-content-sha256", "")
    if len(hashed) == 64 and hashed != hashlib.sha256(request.body).hexdigest():
        return False
    canonical = hashlib.sha256(_canonical_request(request, signature, hashed).encode()).hexdigest()
    scope = f"{signature.date}/{signature.region}/{signature.service}/aws4_request"
    text = f"{ALGORITHM}\n{signature.timestamp}\n{scope}\n{canonical}"
    key = f"AWS4{secret_access_key}".encode()
    for part in (signature.date, signature.region, signature.service, "aws4_request", text):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return hmac.compare_digest(key.hex(), signature.value)


def _canonical_request(request: Request, signature: Signature, hashed: str) -> str:
    # S3 takes the path as it was sent; every other service encodes it once more.
    path = request.path if signature.service == "s3" else quote(request.path, safe="/~")
    values = "".join(f"{name}:{_header(request, name)}\n" for name in signature.signed_headers)
    payload = hashed or (UNSIGNED if signature.in_query else hashlib.sha256(request.body).hexdigest())
    names = ";".join(signature.signed_headers)
    return f"{request.method}\n{path}\n{_canonical_query(request)}\n{values}\n{names}\n{payload}"


def _canonical_query(request: Request) -> str:
    items = [item.partition("=") for item in request.query.split("&") if item]
    pairs = [
        (quote(unquote(name), safe="-_.~"), quote(unquote(value), safe="-_.~"))
        for name, _, value in items
        if name != "X-Amz-Signature"
    ]
    return "&".join(f"{name}={value}" for name, value in sorted(pairs))


def _header(request: Request, name: str) -> str:
    values = [value for each, value in request.header_list if each.lower() == name]
    return ",".join(_SPACES.sub(" ", value.strip()) for value in values)
