"""Stop means stop: signals in every phase of a user's script, in a process of its own.

Each script says by a line or a file that a phase has begun, and would stay in it for a minute.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
import time
from contextlib import ExitStack, contextmanager

import boto3
import pytest
from jupyter_client.manager import start_new_kernel

from tests import scripts, slow_link, web
from tests.conftest import ROOT

LIMIT_S = 3.0
"""Within so long a call returns, and a process ends."""

FRAME = """
import json, linecache, os, signal, sys, threading, time
import ROOT
from dask_root_lambda import LambdaCluster, RDataFrame

execution, where, port = sys.argv[1], sys.argv[2], sys.argv[3]
begun, gate, pipe = (os.path.join(where, name) for name in ("begun", "gate", "pipe"))
begin = f'fclose(fopen("{begun}", "w")); '
wait = begin + f'while (gSystem->AccessPathName("{gate}")) gSystem->Sleep(20); return 1.0;'
def say(word): print(word, flush=True)
def cluster():
    return LambdaCluster(execution=execution, concurrency=2, dashboard_address=None, progress=False)
def begins(): return os.path.exists(begun) or time.sleep(0.02)
def waits():
    frame = sys._current_frames()[threading.main_thread().ident]
    at = linecache.getline(frame.f_code.co_filename, frame.f_lineno)
    state = open(f"/proc/self/task/{os.getpid()}/stat").read().rpartition(")")[2].split()[0]
    return ("waiter.acquire(True" in at and state == "S") or time.sleep(0.02)
"""
"""``waits`` tells whether the main thread sleeps. Python tells of a signal that arrives on its way to
a wait when that ends: distributed's ends after 10 s, and begins again."""

PHASES = {
    "starting": """
say("starting")
cluster()
""",
    "looking": """
with cluster():
    say("looking")
    RDataFrame("Events", f"root://127.0.0.2:{port}//events.root")
""",
    "compiling": """
with cluster():
    frame = RDataFrame(100, npartitions=4)
    say("compiling")
    frame.Define("x", f'\\n#include "{pipe}"\\n return 1.0;')
""",
    "running": """
with cluster() as c, c.get_client():
    total = RDataFrame(100, npartitions=10).Define("x", wait).Sum("x")
    say("running")
    try:
        total.GetValue()
    except KeyboardInterrupt:
        say("interrupted")
        raise
""",
    "merging": """
from dask_root_lambda.plan import steps
def merge(*_):
    while not waits(): pass
    say("merging")
    threading.Event().wait(60)
steps.Merge.__call__ = merge
with cluster() as c, c.get_client():
    RDataFrame(100, npartitions=4).Count().GetValue()
""",
    "closing": """
c = cluster()
with c.get_client():
    assert RDataFrame(100, npartitions=4).Count().compute() == 100
say("closing")
c.close()
threading.Event().wait(60)
""",
}


@contextmanager
def silent_server():
    """A server that takes a connection and never answers; its port, and what ends when it has one."""
    taken = []
    with socket.create_server(("127.0.0.2", 0)) as server:
        waiting = threading.Thread(target=lambda: taken.append(server.accept()[0]), daemon=True)
        waiting.start()
        yield server.getsockname()[1], waiting
        # Whoever waits in accept() does not hear of a close.
        socket.create_connection(server.getsockname()).close()
        waiting.join(30)
    for each in taken:
        each.close()


def reach(phase, script, where, waiting):
    """Wait until a script is in the phase."""
    script.wait_for(phase)
    if phase == "starting":
        script.wait_until(script.children)
    elif phase == "looking":
        script.wait_until(lambda: not waiting.is_alive())
    elif phase == "running":
        script.wait_until((where / "begun").exists)


INT, TERM, KILL = signal.SIGINT, signal.SIGTERM, signal.SIGKILL
CASES = [
    ("starting", "emulated", INT),
    ("looking", "local", INT),
    ("running", "local", INT),
    ("running", "emulated", INT),
    ("running", "emulated", TERM),
    ("running", "emulated", KILL),
    ("merging", "local", INT),
    ("closing", "emulated", INT),
]


@pytest.mark.parametrize(("phase", "execution", "number"), CASES)
def test_a_signal_ends_the_script(phase, execution, number, tmp_path):
    """Within 3 s, with the signal as its status; Python's traceback of Ctrl-C is all that is said, and no
    process is left."""
    with (
        silent_server() as (port, waiting),
        scripts.running(FRAME + PHASES[phase], execution, tmp_path, port) as script,
    ):
        reach(phase, script, tmp_path, waiting)
        began_s = time.monotonic()
        script.send(number)
        status, said = script.end()
        took_s = time.monotonic() - began_s
        print(phase, execution, status, took_s, said)
        assert status == -number
        assert took_s < scripts.limit_s(LIMIT_S)
        assert tracebacks(said) == (["KeyboardInterrupt"] if number == INT else [])
        scripts.wait_until(lambda: not script.left_over)


def tracebacks(said):
    """Return the last line of each traceback, and every line that is part of none; empty ones say nothing.

    Python 3.11 writes one where a function is interrupted before its first line.
    """
    inside = (" ", "Traceback (most recent call last):")
    return [line for line in said.splitlines() if line and not line.startswith(inside)]


@pytest.mark.parametrize("execution", ["local", "emulated"])
def test_a_second_ctrl_c(execution, tmp_path):
    """One more while the first is being handled changes nothing but the time it takes."""
    with scripts.running(FRAME + PHASES["running"], execution, tmp_path, 0) as script:
        reach("running", script, tmp_path, None)
        script.send(INT)
        script.wait_for("interrupted")
        began_s = time.monotonic()
        script.send(INT)
        status, said = script.end()
        print(said)
        assert status == -INT
        assert time.monotonic() - began_s < scripts.limit_s(LIMIT_S)
        assert set(tracebacks(said)) <= {
            "KeyboardInterrupt",
            "During handling of the above exception, another exception occurred:",
        }
        scripts.wait_until(lambda: not script.left_over)


def test_ctrl_c_while_the_client_compiles(tmp_path):
    """What ROOT compiles at the user's line it finishes first; then the script ends."""
    os.mkfifo(tmp_path / "pipe")
    with scripts.running(FRAME + PHASES["compiling"], "local", tmp_path, 0) as script:
        # Open for writing as soon as the compiler reads it.
        with (tmp_path / "pipe").open("w") as header:
            script.send(INT)
            began_s = time.monotonic()
            header.write("// nothing\n")
        status, said = script.end()
        print(said)
        assert status == -INT
        assert time.monotonic() - began_s < scripts.limit_s(LIMIT_S)


STOPS = {
    "Ctrl-C": """
    threading.Thread(target=lambda: (wait_until(begins), os.kill(os.getpid(), signal.SIGINT))).start()
    try: long.GetValue()
    except KeyboardInterrupt: pass
""",
    "client.cancel": """
    future = client.compute(long)
    wait_until(begins)
    client.cancel(future)
""",
    "a range that fails": """
    try: failing.GetValue()
    except Exception as error: assert "on purpose" in str(error)
    else: raise AssertionError
""",
}
GOES_ON = """
def wait_until(condition):
    while not condition(): time.sleep(0.01)

with cluster() as c, c.get_client() as client:
    invocations = lambda: c.report().total.invocations
    step = begin + "gSystem->Sleep(20); return 1.0;"
    frame = RDataFrame(1_000_000, npartitions=10)
    long = frame.Define("x", step).Sum("x")
    # All but the first range that begins.
    fail = f'if (rdfentry_ % 100000 == 0 && !fopen("{begun}", "wx")) throw std::runtime_error("on purpose"); '
    step = fail + "gSystem->Sleep(20); return 1.0;"
    failing = RDataFrame(1_000_000, npartitions=10).Define("x", step).Sum("x")
    # A range that the emulator refuses at first is run again.
    run, runs = c._executor._tries._run, set()
    c._executor._tries._run = lambda job, execution: runs.add(job.call.task) or run(job, execution)
"""
AFTER = """
    stopped_s = time.monotonic()
    wait_until(lambda: not c._executor.ledger.in_flight)
    took_s, before = time.monotonic() - stopped_s, len(runs)
    assert RDataFrame(100, npartitions=4).Count().compute() == 100
    say(json.dumps([took_s, before, len(runs) - before]))
    stopped_s = time.monotonic()
say(json.dumps(time.monotonic() - stopped_s))
"""


@pytest.mark.parametrize("execution", ["local", "emulated"])
@pytest.mark.parametrize("stop", STOPS)
def test_what_is_stopped_begins_no_more(stop, execution, tmp_path):
    """Within 3 s nothing of the run is in flight; none of its other ranges begins, in a process that goes on
    and computes something else; and not a word is said."""
    with scripts.running(FRAME + GOES_ON + STOPS[stop] + AFTER, execution, tmp_path, 0) as script:
        took_s, before, after = json.loads(script.line() or script.said)
        closed_s = json.loads(script.line() or script.said)
        status, said = script.end()
    # ROOT says that of a range that raised.
    assert (status, said.replace("RDataFrame::Run: event loop was interrupted\n", "")) == (0, "")
    assert took_s < scripts.limit_s(LIMIT_S)
    assert closed_s < scripts.limit_s(LIMIT_S)
    # Two at once; the place of one that failed may be taken before its run has heard of it.
    assert before <= 3
    assert after == 4


READS = """
with cluster() as c, c.get_client() as client:
    frame = RDataFrame("Events", where, npartitions=1)
    stopped, other = (client.compute(frame.Define("y", f"Sum(w) + {n}").Sum("y")) for n in (1, 2))
    say("reading")
    input()
    client.cancel(stopped)
    began_s = time.monotonic()
    while c._executor.ledger.in_flight > 1: time.sleep(0.01)
    say(json.dumps(time.monotonic() - began_s))
    input()
    # The rest of what the other reads comes slowly; anew, it comes at once.
    say(json.dumps([other.result(60), frame.Define("y", "Sum(w)").Sum("y").GetValue()]))
"""


@pytest.mark.parametrize("kind", ["s3", "web"])
def test_what_is_stopped_reads_no_more(kind, user, tmp_path):
    """A range ends within 3 s in a process that goes on, however slowly an object comes; another one that
    reads the same object goes on."""
    path, compressed = tmp_path / "far.root", ROOT.RDF.RSnapshotOptions()
    compressed.fCompressionLevel, compressed.fCompressionAlgorithm = 0, 1
    made = ROOT.RDataFrame(100).Define("w", "ROOT::RVecD(1000, rdfentry_)")
    made.Snapshot("Events", str(path), ["w"], compressed)
    with ExitStack() as stack:
        if kind == "s3":
            client = boto3.client("s3", endpoint_url=user)
            client.create_bucket(Bucket="slow")
            client.put_object(Bucket="slow", Key="far.root", Body=path.read_bytes())
            link = stack.enter_context(slow_link.to(user))
            url, env = "s3://slow/far.root", {"AWS_ENDPOINT_URL_S3": link.url}
        else:
            server = stack.enter_context(web.serving())
            server.files["/far.root"] = path.read_bytes()
            link = stack.enter_context(slow_link.to(server.url))
            url, env = f"{link.url}/far.root", {}
        link.down = 100_000
        script = stack.enter_context(
            scripts.running(FRAME + READS, "local", url, 0, env=env, stdin=subprocess.PIPE)
        )
        script.wait_for("reading")
        before = link.passed
        script.wait_until(lambda: link.passed > before + 100_000)
        script.answer()
        took_s = json.loads(script.line() or script.said)
        link.down = float("inf")
        script.answer()
        results = json.loads(script.line() or script.said)
        assert script.end() == (0, "")
    assert took_s < scripts.limit_s(LIMIT_S)
    total = 1000 * sum(range(100))
    assert results == [total + 2 * 100, total]


SETUP, LONG, REST = (
    FRAME.replace("sys.argv[1], sys.argv[2], sys.argv[3]", "'emulated', {where!r}, 0")
    + "c = cluster(); client = c.get_client()\n"
    + "total = RDataFrame(100, npartitions=10).Define('x', wait).Sum('x')\n",
    "total.GetValue()",
    "began = c.report().total.invocations\n"
    "n = RDataFrame(100, npartitions=4).Count().compute()\n"
    "print(n, c.report().total.invocations - began, c._executor.ledger.in_flight)\n"
    "client.close(); c.close()",
)


def test_a_notebooks_cell_is_interrupted(tmp_path):
    """Its button ends the cell within 3 s, with KeyboardInterrupt and nothing on standard error; the next
    cell works, and no range of the first begins beside it."""
    with kernel() as (manager, client):
        execute(client, SETUP.replace("{where!r}", repr(str(tmp_path))))
        asked = client.execute(LONG)
        scripts.wait_until((tmp_path / "begun").exists)
        began_s = time.monotonic()
        manager.interrupt_kernel()
        reply = answer(client, asked)
        took_s = time.monotonic() - began_s
        assert (reply["status"], reply.get("ename")) == ("error", "KeyboardInterrupt")
        assert took_s < scripts.limit_s(LIMIT_S)
        assert streams(client, asked) == []
        asked = execute(client, REST)
        assert streams(client, asked) == [("stdout", "100 4 0\n")]


@contextmanager
def kernel():
    """Run a kernel of this interpreter; give what manages it, and a client."""
    manager, client = start_new_kernel(
        kernel_name="python3", extra_arguments=["--InteractiveShell.xmode=Plain"]
    )
    try:
        yield manager, client
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def execute(client, code):
    """Run a cell, which is to succeed; return the identity of the request."""
    asked = client.execute(code)
    reply = answer(client, asked)
    assert reply["status"] == "ok", reply
    return asked


def answer(client, asked):
    """Wait for what a kernel says of a request, behind what it says of those before."""
    while True:
        message = client.get_shell_msg(timeout=scripts.PATIENCE_S)
        if message["parent_header"].get("msg_id") == asked:
            return message["content"]


def streams(client, asked):
    """Return what a cell wrote to standard output and error, until it was done."""
    said = []
    while True:
        message = client.get_iopub_msg(timeout=scripts.PATIENCE_S)
        if message["parent_header"].get("msg_id") != asked:
            continue
        content = message["content"]
        if message["msg_type"] == "stream":
            said.append((content["name"], content["text"]))
        elif content.get("execution_state") == "idle":
            return said
