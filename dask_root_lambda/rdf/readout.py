"""AsNumpy and Display: their arguments, and which columns can be read out where ranges run."""

from __future__ import annotations

import functools
import inspect
import operator
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import ROOT
from ROOT._pythonization._rdataframe import RDataFrameAsNumpy

from dask_root_lambda.protocol.errors import GraphError
from lambda_runtime import diagnostics

_SIGNATURE = inspect.signature(RDataFrameAsNumpy)
_DISPLAYED = ("columns", "nRows", "nMaxCollectionElements")
_RVEC = "ROOT::VecOps::RVec<"


def arguments(frame: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of an ``AsNumpy`` by name, with the columns that it reads.

    Parameters
    ----------
    frame
        A local RDataFrame of the same columns.
    args, kwargs
        As the user gave them.

    Raises
    ------
    GraphError
        ``AsNumpy`` takes no such arguments, or objects of a column cannot be sent.
    """
    try:
        given = _SIGNATURE.bind(frame, *args, **kwargs).arguments
    except TypeError as error:
        raise GraphError(f"AsNumpy: {error}; it takes columns, exclude and lazy") from None
    columns = _names("columns", given) or [str(name) for name in frame.GetColumnNames()]
    exclude = _names("exclude", given)
    if set(columns) <= set(exclude):
        raise GraphError(f"AsNumpy: exclude leaves no column of {', '.join(columns)}")
    for name in columns:
        if name not in exclude and frame.HasColumn(name):
            _check_type(name, str(frame.GetColumnType(name)))
    return {"columns": columns, "exclude": exclude, "lazy": bool(given.get("lazy"))}


def display_arguments(frame: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return the arguments of a ``Display`` by position: columns, entries, elements of a collection.

    Parameters
    ----------
    frame
        A local RDataFrame of the same columns.
    args, kwargs
        As the user gave them.

    Raises
    ------
    GraphError
        ``Display`` takes no such arguments, or no column matches.
    """
    named = {_DISPLAYED[0] if name.startswith("columnName") else name: item for name, item in kwargs.items()}
    named = {_DISPLAYED[0] if name == "columnList" else name: item for name, item in named.items()}
    given: dict[str, Any] = {"columns": "", "nRows": 5, "nMaxCollectionElements": 10}
    given |= dict(zip(_DISPLAYED, args, strict=False)) | named
    try:
        limits = [operator.index(given[name]) for name in _DISPLAYED[1:]]
    except TypeError:
        limits = [-1]
    if len(args) > len(_DISPLAYED) or given.keys() != set(_DISPLAYED) or min(limits) < 0:
        raise GraphError(f"Display takes {', '.join(_DISPLAYED)}; given: {(*args, *kwargs.items())!r}")
    columns = given["columns"]
    if isinstance(columns, str):
        try:
            columns = ROOT.Internal.RDF.ConvertRegexToColumns(frame.GetColumnNames(), columns, "Display")
        except Exception as error:  # ROOT raises what no column matches as std::runtime_error
            raise GraphError(f"Display: {diagnostics.first_line(error)}") from error
    return [str(name) for name in columns], *limits


def _names(argument: str, given: Mapping[str, Any]) -> list[str]:
    names = given.get(argument)
    if isinstance(names, str):
        raise GraphError(f"AsNumpy takes a list of names for {argument}, given: {names!r}")
    return [] if names is None else [str(name) for name in names]


def _check_type(column: str, type_name: str) -> None:
    kind = ROOT.TClass.GetClass(type_name)
    if kind and not kind.GetClassInfo():
        raise GraphError(
            f"AsNumpy: the type of {column!r}, {type_name}, is not known here: load its library or header, "
            "and give it to DistributeSharedLibs or DistributeHeaders"
        )
    obstacle = _unsendable(type_name)
    if obstacle:
        raise GraphError(
            f"AsNumpy: {column!r} is a {type_name}, and ROOT cannot write {obstacle} without a dictionary: "
            "Define a column of what you need of it"
        )


@functools.cache  # ROOT reports what it leaves out of a class once.
def _unsendable(type_name: str) -> str:
    """Return the type inside a type whose objects ROOT would write wrong; empty where there is none."""
    while type_name.startswith(_RVEC):  # They travel by element, see `lambda_runtime.arrays`.
        type_name = type_name[len(_RVEC) : -1].strip()
    return next(_without_dictionary(ROOT.TClass.GetClass(type_name), set()), "")


def _without_dictionary(kind: Any, seen: set[str]) -> Iterator[str]:
    if not kind or kind.HasDictionary() or kind.GetName() in seen:
        return
    seen.add(str(kind.GetName()))
    proxy = kind.GetCollectionProxy()
    if proxy:
        if kind.GetName().startswith(_RVEC):
            yield str(kind.GetName())
        yield from _without_dictionary(proxy.GetValueClass(), seen)
        return
    with diagnostics.record() as reported:
        elements = {str(element.GetName()): element for element in kind.GetStreamerInfo().GetElements()}
    if reported.text or not elements.keys() >= set(_written_members(kind)):
        yield str(kind.GetName())
    for element in elements.values():
        yield from _without_dictionary(element.GetClassPointer(), seen)


def _written_members(kind: Any) -> Iterator[str]:
    """Yield the members of a class that belong into a file."""
    for member in kind.GetListOfDataMembers():
        if member.IsPersistent() and not member.Property() & ROOT.kIsStatic:
            yield str(member.GetName())
