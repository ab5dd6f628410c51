"""Errors of the user's code keep their class and what they say, and tell what to do."""

from __future__ import annotations

import threading

import dask
import pytest
from distributed import Client

from dask_root_lambda import RDataFrame
from dask_root_lambda.protocol.errors import CompilationError, RemoteError, UserCodeError
from lambda_runtime import diagnostics
from tests.conftest import ROOT

MEGABYTE = 1_000_000


@pytest.fixture(params=["local", "emulated"])
def client(request):
    with request.getfixturevalue(request.param).get_client() as client:
        yield client


def frame():
    return RDataFrame(10, npartitions=2).Define("x", "double(rdfentry_)")


class TestLongErrors:
    """Up to a megabyte, an error arrives as what it is."""

    WAYS = (
        lambda result: dask.compute(result),
        lambda result: result.GetValue(),
        lambda result: Client.current().compute(result).result(60),
    )

    @pytest.mark.parametrize("way", WAYS)
    def test_of_a_frame(self, client, way):
        """A C++ exception is a RuntimeError, as ROOT's, with all of its text."""
        code = f"throw std::runtime_error(std::string({MEGABYTE}, 'x') + \"end\"); return 1.;"
        with pytest.raises(RuntimeError) as caught:
            way(frame().Define("y", code).Sum("y"))
        assert type(caught.value) is UserCodeError
        assert "x" * MEGABYTE + "end" in caught.value.message

    def test_of_a_plain_call(self, client):
        """A Python exception is raised as itself."""

        def fail():
            raise KeyError("x" * MEGABYTE)

        with dask.annotate(executor="lambda"), pytest.raises(KeyError) as caught:
            dask.delayed(fail)().compute()
        assert caught.value.args == ("x" * MEGABYTE,)


LOCAL_ONLY = {
    "drl_declared(x)": ("drl_declared", "double drl_declared(double x) { return x; }"),
    "drl_variable * x": ("drl_variable", "double drl_variable = 1;"),
    "DrlStruct s; return s.v * x;": ("DrlStruct", "struct DrlStruct { double v = 1; };"),
    "drl_space::same(x)": ("drl_space", "namespace drl_space { double same(double x) { return x; } }"),
    "std::vector<DrlItem> v; return x;": ("DrlItem", "struct DrlItem { double v = 1; };"),
    "ROOT::drl_inside(x)": ("drl_inside", "namespace ROOT { double drl_inside(double x) { return x; } }"),
}
"""Expressions, the name that only the user's process knows, and the code that it knows it by."""


class TestCodeThatStaysBehind:
    """What is declared in the user's process only, as in ROOT's tutorials."""

    @pytest.mark.parametrize("expression", LOCAL_ONLY)
    def test_declared(self, local, emulated, expression):
        """It works in that process; elsewhere the error names it, and what lets it travel."""
        name, code = LOCAL_ONLY[expression]
        assert ROOT.gInterpreter.Declare(code)
        assert frame().Define("y", expression).Sum("y").GetValue() == 45.0
        with emulated.get_client():
            total = frame().Define("y", expression).Sum("y")
            with pytest.raises(CompilationError, match=f"Of {name} only your own process knows") as caught:
                total.GetValue()
        assert "ROOT.RDF.Distributed.DistributeCppCode" in caught.value.message
        assert "ROOT.RDF.Distributed.initialize" in caught.value.message

    def test_processed_lines(self, local):
        """In the user's process, lines, macros and functions that numba compiles work as well."""
        ROOT.gInterpreter.ProcessLine("auto drl_line = [](double x) { return x + 1; };")

        @ROOT.Numba.Declare(["double"], "double")
        def drl_numba(x):
            return 2 * x

        assert frame().Define("y", "drl_line(x) + Numba::drl_numba(x)").Sum("y").GetValue() == 145.0

    def test_a_function_of_numbas(self, emulated):
        """The error of a function that numba compiled here says the same."""

        @ROOT.Numba.Declare(["double"], "double")
        def drl_numba_alone(x):
            return 2 * x

        with emulated.get_client():
            total = frame().Define("y", "Numba::drl_numba_alone(x)").Sum("y")
            with pytest.raises(CompilationError, match=r"Of (Numba|drl_numba_alone) only.*Declare make"):
                total.GetValue()

    def test_code_that_needs_such_code(self, emulated, registered):
        """Of code that is distributed and calls what is not, the error says so."""
        ROOT.gInterpreter.Declare("double drl_called(double x) { return x; }")
        ROOT.RDF.Distributed.DistributeCppCode("double drl_calling(double x) { return drl_called(x); }")
        with emulated.get_client():
            total = frame().Define("y", "drl_calling(x)").Sum("y")
            with pytest.raises(CompilationError, match=r"Cpp.* not compile.*Of drl_called only"):
                total.GetValue()


def test_a_process_in_which_nothing_new_compiles(monkeypatch):
    """What ROOT says after a graph that did not compile is no error of the graph that comes next."""
    monkeypatch.setattr(diagnostics, "_spoiled", threading.Event())

    def told(text):
        with pytest.raises(RemoteError) as raised, diagnostics.user_code("the graph"):
            raise RuntimeError(f"void TriggerRun() =>\n    runtime_error: {text}")
        return raised.value

    assert isinstance(told("failed to retrieve the JIT helper function 'f'"), CompilationError)
    # A map of the user's says this, too.
    assert "raised RuntimeError: unordered_map::at" in str(told("unordered_map::at"))
    diagnostics._spoiled.set()
    assert "Start the process" in str(told("unordered_map::at"))
