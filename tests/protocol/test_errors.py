"""Errors say where they happened, and travel."""

from __future__ import annotations

import pickle
import re

import pytest

from dask_root_lambda.protocol import errors
from dask_root_lambda.protocol.errors import CompilationError, DaskRootLambdaError, ThrottledError


def classes():
    return [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, DaskRootLambdaError)
    ]


@pytest.mark.parametrize("kind", classes(), ids=lambda kind: kind.__name__)
def test_errors_travel_between_processes(kind):
    """Dask sends exceptions between processes: message, task and request come along."""
    error = kind("it failed", task="range-1", attempt=2, request_id="abc")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert str(again) == str(error) == "it failed [task range-1, attempt 2, request abc]"


def test_the_tree_in_the_docstring_is_the_tree_of_the_classes():
    """The picture at the head of the module shows every class, below its parent."""
    stack, drawn = [], {}
    for line in errors.__doc__.split("::", 1)[1].splitlines():
        found = re.search(r"[A-Z]\w+", line)
        if found and (line.lstrip().startswith(("├", "└", "│")) or not stack):
            depth = found.start()
            stack = [item for item in stack if item[0] < depth]
            drawn[found.group()] = stack[-1][1] if stack else None
            stack.append((depth, found.group()))
    parents = {kind.__name__: kind.__bases__[0].__name__ for kind in classes()}
    parents["DaskRootLambdaError"] = None
    assert drawn == parents


def test_a_remote_error_shows_the_users_line_and_the_traceback():
    """Cling's diagnostics and the remote traceback are part of the text."""
    error = CompilationError(
        "the graph does not compile", diagnostics="input_line_3: nope", traceback="File x"
    )
    assert "ROOT reported:\ninput_line_3: nope" in str(error)
    assert "Where it ran:\nFile x" in str(error)


def test_throttling_may_pass_and_a_compilation_error_does_not():
    """Whether a retry can help is a property of the class."""
    assert ThrottledError.retryable
    assert not CompilationError.retryable
