"""Variables of the users' C++ code that Python may change: found in the code, read, and set where it runs."""

from __future__ import annotations

import functools
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import cppyy
import ROOT

from dask_root_lambda.protocol.errors import UserCodeError
from dask_root_lambda.protocol.task import Variables

_NO_CODE = re.compile(r'//[^\n]*|/\*.*?\*/|R"\(.*?\)"|"(?:\\.|[^"\\\n])*"|^\s*#[^\n]*', re.DOTALL | re.M)
"""Comments, texts and lines of the preprocessor."""
_NAMESPACE = re.compile(r"\bnamespace\s*([\w:]*)\s*$")
_OTHER = re.compile(
    r"\b(?:class|const\w*|enum|extern|friend|namespace|struct|template|typedef|union|using)\b"
)
"""What a declaration of something else has."""
_INITIALISED = re.compile(r"=[^,]*")
_DECLARED = re.compile(r"(?<=[\s,>])([A-Za-z_]\w*)\s*(?=,|$)")
_ASSIGNED = r"(?:\+\+|--|&)\s*{0}\b|\b{0}\s*(?:\+\+|--|(?:[-+*/%&|^]|<<|>>)?=(?!=))"


@functools.lru_cache(maxsize=64)
def declared(code: str) -> tuple[str, ...]:
    """Return what may be variables that code declares, with their namespaces, as ``a::b``.

    Those that functions of the code assign to are left out: they hold what the process has done, such as
    whether a table has been read, which is not so in another one.
    """
    names: list[str] = []
    bodies: list[str] = []
    for scopes, text, end in _pieces(_NO_CODE.sub(" ", code)):
        if None in scopes:
            bodies.append(text)
        elif end != "}":
            names += _names(scopes, text)
    written = ";".join(bodies)
    kept = (name for name in names if not re.search(_ASSIGNED.format(name.rpartition("::")[2]), written))
    return tuple(dict.fromkeys(kept))


_Scopes = tuple[str | None, ...]
"""The braces that a piece of code is in: namespaces, and None for others."""


def _pieces(code: str) -> Iterator[tuple[_Scopes, str, str]]:
    """Yield what is between braces and semicolons, where it is, and what ends it."""
    scopes: _Scopes = ()
    for text, end in re.findall(r"([^{};]*)([{};]|$)", code):
        yield scopes, text, end
        if end == "{":
            space = _NAMESPACE.search(text)
            scopes = (*scopes, space[1] if space is not None and None not in scopes else None)
        elif end == "}":
            scopes = scopes[:-1]


def _names(scopes: _Scopes, statement: str) -> list[str]:
    if _OTHER.search(statement) or "(" in statement.partition("=")[0]:
        return []
    space = "".join(f"{scope}::" for scope in scopes if scope)
    return [space + name for name in _DECLARED.findall(_INITIALISED.sub("", statement))]


def read(code: str) -> Variables:
    """Return the variables of numbers and strings that code declares, with what they are now."""
    return tuple((name, value) for name in declared(code) if (value := _value(name)) is not None)


def _value(name: str) -> bool | int | float | str | None:
    try:
        value = functools.reduce(getattr, name.split("::"), cppyy.gbl)
    except (AttributeError, TypeError):
        return None
    if isinstance(value, ROOT.std.string):
        return str(value)
    return value if isinstance(value, bool | int | float | str) else None


def _set(variables: Variables) -> None:
    for name, value in variables:
        space, _, last = name.rpartition("::")
        setattr(functools.reduce(getattr, space.split("::"), cppyy.gbl) if space else cppyy.gbl, last, value)


def check(variables: Variables) -> None:
    """Raise `UserCodeError` where a variable of this process is not what it was when the graph was made."""
    for name, value in variables:
        # Compared as text: NaN is not equal to itself.
        if (now := _value(name)) is None or repr(now) != repr(value):
            raise UserCodeError(
                f"the variable {name} is {now!r}, and was {value!r} when the computation began: change it "
                "when that is done, and compute again"
            )


_changed = threading.Condition()
_held: list[Variables] = []
"""What event loops of this process run with, one for each."""


@contextmanager
def held(variables: Variables, *, own: bool) -> Iterator[None]:
    """Let the variables of this process be what a graph was made with, as long as the block runs.

    Parameters
    ----------
    variables
        The variables.
    own
        Whether this is the process where the graph was made: the user's, whose variables are checked, not
        set.

    Raises
    ------
    UserCodeError
        The user has changed one of them.
    """
    if not variables:
        yield
    elif own:
        check(variables)
        yield
        check(variables)
    else:
        with _changed:
            _changed.wait_for(lambda: all(each == variables for each in _held))
            _held.append(variables)
            _set(variables)
        try:
            yield
        finally:
            with _changed:
                _held.remove(variables)
                _changed.notify_all()
