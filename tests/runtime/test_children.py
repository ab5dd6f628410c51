"""One environment serves many users and runs, and none notices the others."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest

from dask_root_lambda.config import Settings
from dask_root_lambda.invocation.emulated import EmulatedInvoker
from dask_root_lambda.protocol.store import EMULATED_KEY

_CLIENT = """
import json, sys
import ROOT
from dask_root_lambda import LambdaCluster, RDataFrame

code, headers, files, libraries, column = json.loads(sys.argv[1])
for distribute, what in (
    ("DistributeHeaders", headers), ("DistributeFiles", files), ("DistributeSharedLibs", libraries),
):
    if what:
        getattr(ROOT.RDF.Distributed, distribute)(what)
if code:
    ROOT.RDF.Distributed.DistributeCppCode(code)
with LambdaCluster(execution="lambda", function="dask-root-lambda", concurrency=1, progress=False) as cluster:
    with cluster.get_client():
        total = RDataFrame(10, npartitions=2).Define("y", column).Sum("y").GetValue()
    report = cluster.report()
print(json.dumps([total, report.total.cold_starts]))
"""

_FAILING = """
import json
import ROOT
from dask_root_lambda import LambdaCluster, RDataFrame

with LambdaCluster(execution="lambda", function="dask-root-lambda", concurrency=1, progress=False) as cluster:
    with cluster.get_client():
        try:
            RDataFrame(10, npartitions=2).Define("y", "std::pair<int, int>{}").Sum("y").GetValue()
        except Exception as error:
            told = type(error).__name__
    report = cluster.report()
print(json.dumps([told, report.total.cold_starts]))
"""

_CALLER = """
import json, os, sys
from dask_root_lambda import LambdaExecutor
from dask_root_lambda.config import Settings

def change():
    import builtins
    os.chdir("/")
    os.environ["CHANGED"] = "yes"
    builtins.changed = True
    return look()

def look():
    import builtins
    return [os.getcwd() == "/", "CHANGED" in os.environ, hasattr(builtins, "changed")]

settings = Settings.resolve(execution="lambda", function="dask-root-lambda", concurrency=1)
with LambdaExecutor(settings=settings) as executor:
    found = [executor.submit(globals()[name]).result(60) for name in sys.argv[1:]]
print(json.dumps(found))
"""


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "snapstart"])
def deployment(request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    """A function that somebody deployed: the variables that lead a client to it."""
    settings = Settings.resolve(execution="emulated", concurrency=1, timeout_s=60, snapstart=request.param)
    invoker = EmulatedInvoker(settings)
    qualifier = invoker._tiers.function(0).qualifier
    variables = {
        "AWS_ENDPOINT_URL": invoker._process.endpoint,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": EMULATED_KEY,
        "AWS_SECRET_ACCESS_KEY": EMULATED_KEY,
        "DASK_ROOT_LAMBDA__AWS__STORE": invoker.store.url,
        **({"DASK_ROOT_LAMBDA__AWS__QUALIFIER": qualifier} if qualifier else {}),
    }
    # The only environment there is: those of the tests have no cold start.
    client(variables, "1.")
    yield variables
    invoker.close()


def client(deployment, column, code="", headers=(), files=(), libraries=()):
    """Compute the sum of a column of 10 entries in a new process; return it and the cold starts."""
    return program(deployment, _CLIENT, json.dumps([code, headers, files, libraries, column]))


def program(deployment, code, *arguments):
    """Run a new process that is a client; return the JSON that it prints."""
    script = [sys.executable, "-c", code, *arguments]
    env = {**os.environ, **deployment}
    done = subprocess.run(script, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def written(directory, name, content):
    directory.mkdir(exist_ok=True)
    path = directory / name
    path.write_text(content)
    return [str(path)]


def test_edited_code_runs_as_it_is_now(deployment):
    """Edit, run, edit back, run: each client gets the numbers of its code, from the same environment."""
    sums = [client(deployment, "k()", code=f"double k() {{ return {value}; }}") for value in (1, 2, 1)]
    assert sums == [[10, 0], [20, 0], [10, 0]]


def test_headers_of_one_name(deployment, tmp_path):
    """A header that is edited is the new one, also behind the same include guard."""
    for cut in (2, 3):
        text = f"#ifndef CUTS_H\n#define CUTS_H\ninline double cut() {{ return {cut}; }}\n#endif\n"
        assert client(deployment, "cut()", headers=written(tmp_path, "cuts.h", text)) == [10 * cut, 0]


def test_files_of_one_name(deployment, tmp_path):
    """Each of two analyses, in turn, reads its own weights."""
    code = (
        '#include <fstream>\ndouble weight() { double w = 0; std::ifstream("weights.txt") >> w; return w; }'
    )
    weights = {value: written(tmp_path / str(value), "weights.txt", str(value)) for value in (4, 5)}
    for value in (4, 5, 4):
        assert client(deployment, "weight()", code=code, files=weights[value]) == [10 * value, 0]


@pytest.mark.skipif(
    shutil.which("g++") is None, reason="the library is compiled here, and this machine has no g++"
)
def test_libraries_of_one_name(deployment, tmp_path):
    """A library that was built anew is the new one."""
    for value in (6, 7):
        source = written(tmp_path, "lib.cpp", f'extern "C" double from_library() {{ return {value}; }}')
        library = tmp_path / str(value) / "libmine.so"
        library.parent.mkdir()
        subprocess.run(["g++", "-shared", "-fPIC", *source, "-o", library], check=True, timeout=60)
        declared = 'extern "C" double from_library();'
        total = client(deployment, "from_library()", code=declared, libraries=[str(library)])
        assert total == [10 * value, 0]


_CHANGING = """
#include <cstdlib>
#include <fstream>
#include <unistd.h>
double change() { return 1 + setenv("CHANGED", "yes", 1) + chdir("/"); }
double look()
{
   double weight = 0;
   std::ifstream("weights.txt") >> weight;
   return weight + (getenv("CHANGED") ? 100 : 0);
}
"""


def test_directory_and_variables_are_each_events_own(deployment, tmp_path):
    """What code of one range does to both, C++ included, is undone for the next in the same process."""
    files = written(tmp_path, "weights.txt", "7")
    assert client(deployment, "change()", code=_CHANGING, files=files) == [10, 0]
    assert client(deployment, "look()", code=_CHANGING, files=files) == [70, 0]


def test_plain_calls_of_two_clients(deployment):
    """What one client's functions patch, no other's meet; directory and variables are as before at once."""
    there = [True, True, True]
    assert program(deployment, _CALLER, "change", "look") == [there, [False, False, True]]
    assert program(deployment, _CALLER, "look") == [[False, False, False]]
    assert client(deployment, "1.") == [10, 0]


def test_a_graph_that_does_not_compile_spoils_no_environment(deployment):
    """ROOT compiles nothing new in a process after it: the next graph gets another one."""
    assert program(deployment, _FAILING) == ["CompilationError", 0]
    for power in (2, 3):
        total = sum(number**power for number in range(10))
        assert client(deployment, f"std::pow(double(rdfentry_), {power})") == [total, 0]
