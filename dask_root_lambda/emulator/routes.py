"""Which operation of the Lambda API a request is.

Paths, methods, parameters and success codes come from botocore's own model of the service, the one that
boto3 clients are made from: nothing is copied by hand, and an operation that is not emulated still has
its name in the error.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import parse_qs, unquote

import botocore.session

from dask_root_lambda.emulator.endpoint import Request
from dask_root_lambda.emulator.errors import InvalidContentError, ResourceNotFoundError

# Every path of the API starts with the date of its version.
_LAMBDA_PATH = re.compile(
    r"/20\d\d-\d\d-\d\d/(functions|event-source-mappings|layers|account-settings|tags)(/|$)"
)
_CREDENTIAL = re.compile(
    r"Credential(?:=|%3D)[^/,&%]+(?:/|%2F)\d{8}(?:/|%2F)([a-z0-9-]+)(?:/|%2F)([a-z0-9-]+)"
)
_LABEL = re.compile(r"\{(\w+)\+?\}")


@dataclass(frozen=True)
class Route:
    """One operation of the service."""

    operation: str
    """Its name, as in ``CreateFunction``."""
    method: str
    """HTTP method."""
    pattern: re.Pattern[str]
    """Of the path, with a named group for each parameter in it."""
    marks: tuple[str, ...]
    """Items that the query must have: they tell two operations of one path apart."""
    status: int
    """HTTP status of success."""
    query_names: tuple[tuple[str, str], ...]
    """Parameters in the query: name in the URL, name in the model."""
    list_names: frozenset[str]
    """Those of them that are lists."""


@dataclass(frozen=True)
class Call:
    """An operation with its parameters, as a client of the API sees it."""

    route: Route
    """What to do."""
    parameters: dict[str, Any]
    """From path, query and body, under the model's names."""
    request: Request
    """As it came."""


def credential_scope(request: Request) -> tuple[str, str]:
    """Region and service that a request was signed for; empty strings without a signature."""
    found = _CREDENTIAL.search(request.headers.get("authorization", "")) or _CREDENTIAL.search(request.query)
    return (found[1], found[2]) if found else ("", "")


def is_lambda(request: Request) -> bool:
    """Whether a request is for Lambda: by its signature, else by its path."""
    service = credential_scope(request)[1]
    return service == "lambda" if service else _LAMBDA_PATH.match(request.path) is not None


def find_route(method: str, path: str, query: str = "") -> tuple[Route, dict[str, str]]:
    """Operation and path parameters of a request.

    Raises
    ------
    ResourceNotFoundError
        If the API has no such path.
    """
    for route in routes():
        if route.method == method and set(route.marks) <= set(query.split("&")):
            found = route.pattern.fullmatch(path)
            if found:
                return route, {name: unquote(value) for name, value in found.groupdict().items()}
    raise ResourceNotFoundError(f"Lambda has no operation {method} {path}")


def read_call(request: Request) -> Call:
    """Operation and parameters of a request whose body, if any, is a JSON object."""
    route, parameters = find_route(request.method, request.path, request.query)
    query = parse_qs(request.query, keep_blank_values=True)
    values: dict[str, Any] = dict(parameters)
    for url_name, name in route.query_names:
        if url_name in query:
            values[name] = query[url_name] if name in route.list_names else query[url_name][0]
    if request.body:
        values = {**_json_object(request.body), **values}
    return Call(route, values, request)


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body, object_hook=_without_nulls)
    except ValueError as error:
        raise InvalidContentError(f"Could not parse request body into json: {error}") from None
    if not isinstance(document, dict):
        raise InvalidContentError("Could not parse request body into json: not an object")
    return document


def _without_nulls(members: dict[str, Any]) -> dict[str, Any]:
    """Take a member that is null for one that was not sent."""
    return {name: value for name, value in members.items() if value is not None}


@cache
def routes() -> tuple[Route, ...]:
    """Every operation of the service, those that a query tells apart first."""
    model = botocore.session.get_session().get_service_model("lambda")
    every = [_route(model.operation_model(name)) for name in model.operation_names]
    return tuple(sorted(every, key=lambda route: not route.marks))


def _route(operation: Any) -> Route:
    path, _, marks = operation.http["requestUri"].partition("?")
    members = operation.input_shape.members if operation.input_shape else {}
    in_query = {
        shape.serialization.get("name", name): name
        for name, shape in members.items()
        if shape.serialization.get("location") == "querystring"
    }
    lists = frozenset(name for name in in_query.values() if members[name].type_name == "list")
    return Route(
        operation.name,
        operation.http["method"],
        re.compile(_path_pattern(path) + "/?"),
        tuple(marks.split("&")) if marks else (),
        operation.http.get("responseCode", 200),
        tuple(in_query.items()),
        lists,
    )


def _path_pattern(path: str) -> str:
    """Pattern of a path template; a parameter with a plus may hold slashes."""
    pattern, position = "", 0
    for label in _LABEL.finditer(path):
        some = ".+" if label[0].endswith("+}") else "[^/]+"
        pattern += re.escape(path[position : label.start()]) + f"(?P<{label[1]}>{some})"
        position = label.end()
    return pattern + re.escape(path[position:])
