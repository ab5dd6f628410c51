"""ROOT in a Jupyter kernel, where its completion of C++ can break its interpreter.

In a kernel, ``import ROOT`` declares the completer's code, and opens the library that this code needs,
``libRint.so``, by its bare name. The loader does not find it where ROOT's libraries are not on its path, as
with the package on PyPI. What is compiled later and shares a function with the completer's code, such as the
destructor of a vector of strings, is compiled together with it; without the library both fail, for good. Once
the library is loaded all is well, unless something has failed before.
"""

from __future__ import annotations

import sys

import ROOT

from dask_root_lambda.protocol.errors import ConfigurationError
from lambda_runtime.declaring import declared

_COMPLETER = "ROOT._jupyroot"
"""The module that ROOT imports in a kernel."""

_PROBE = """
#include <string>
#include <vector>
namespace dask_root_lambda { int CompletionProbe() { return std::vector<std::string>{"one"}.size(); } }
"""


def load_completion_library() -> None:
    """Load what ROOT's completion of C++ needs, in a kernel; elsewhere nothing."""
    if _COMPLETER in sys.modules:
        ROOT.gSystem.Load("libRint")


def check_completion() -> None:
    """Compile what shares a function with the completer's code.

    Raises
    ------
    ConfigurationError
        The interpreter is broken: C++ was compiled before this package was imported.
    """
    if _COMPLETER not in sys.modules:
        return
    if declared(_PROBE).CompletionProbe() != 1:
        raise ConfigurationError(
            "ROOT's interpreter is broken in this kernel: C++ code was compiled before the library of ROOT's "
            "completion was loaded. Restart the kernel and import dask_root_lambda right behind ROOT, before "
            'the first ROOT.gInterpreter.Declare; or call ROOT.gSystem.Load("libRint") there'
        )
