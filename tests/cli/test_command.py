"""The command: what it says, and its exit status."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import psutil
import pytest

from dask_root_lambda import __version__, cli
from dask_root_lambda.cli.command import COMMANDS, Command
from dask_root_lambda.protocol.errors import DaskRootLambdaError

COMMAND = Path(sys.executable).with_name("dask-root-lambda")


@pytest.fixture
def environment(tmp_path):
    """A user without AWS settings, and a cache of their own."""
    own = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "AWS_EC2_METADATA_DISABLED": "true"}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return {**kept, **own, "HOME": str(tmp_path)}


@pytest.fixture
def command(tmp_path, environment):
    """Run the command in a directory of its own."""

    def run(*arguments, timeout_s=100):
        return subprocess.run(
            [COMMAND, *map(str, arguments)], cwd=tmp_path, env=environment,
            capture_output=True, text=True, timeout=timeout_s, check=False,
        )  # fmt: skip

    return run


@pytest.fixture
def started(tmp_path, environment):
    """Start the command; it is ended with the test."""
    processes = []

    def start(*arguments):
        process = subprocess.Popen(
            [COMMAND, *map(str, arguments)], cwd=tmp_path, env=environment,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        processes.append(process)
        return process

    yield start
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=30)


def line_of(process, timeout_s=60):
    """Return the next line that a process writes."""
    lines = []
    reader = threading.Thread(target=lambda: lines.append(process.stdout.readline()), daemon=True)
    reader.start()
    reader.join(timeout_s)
    assert lines, f"nothing was written within {timeout_s} s"
    return lines[0]


def wait_until(condition, timeout_s):
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, f"not so within {timeout_s} s"
        time.sleep(0.05)


def test_help_names_every_command(command):
    """``--help`` is quick and complete: ROOT and Dask are not even imported."""
    done = command("--help", timeout_s=10)
    assert done.returncode == 0
    assert all(name in done.stdout for name in COMMANDS)


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_has_help(name, capsys):
    """With its summary and its options."""
    with pytest.raises(SystemExit) as ended:
        cli.main([name, "--help"])
    assert ended.value.code == 0
    assert COMMANDS[name].summary in " ".join(capsys.readouterr().out.split())


def test_the_version_is_the_packages(command):
    """``--version`` prints it."""
    assert command("--version").stdout == f"dask-root-lambda {__version__}\n"


def assert_only_progress(text):
    """Where the output is no terminal, lines tell how far the run is; nothing else is said there."""
    lines = text.splitlines()
    assert re.fullmatch(r"run \w+: done, (\d+) of \1 ranges, 100%, .*", lines[-1])
    assert all(re.match(r"run \w+: [a-z ]+, \d+ of \d+ ranges, \d+%", line) for line in lines)


def test_the_demo_prints_the_cut_flow_and_draws_the_spectrum(command, tmp_path):
    """With generated events under emulated execution: counts, mean, report, plots and figures."""
    done = command("demo", "--events", 20_000, "--concurrency", 2, "--npartitions", 4, "--json", "out.json")
    assert done.returncode == 0
    assert_only_progress(done.stderr)
    text = " ".join(done.stdout.split())
    assert "all events 20,000 exactly two muons 10,915 54.6% opposite charge 8,276 75.8%" in text
    assert "mean mass 22.86732418 GeV executions emulated runs 1 ranges 4 invocations 4," in text
    assert (tmp_path / "dimuon_spectrum.pdf").read_bytes().startswith(b"%PDF")
    assert (tmp_path / "dimuon_spectrum.png").read_bytes().startswith(b"\x89PNG")
    figures = json.loads((tmp_path / "out.json").read_text())
    assert figures["cut_flow"] == {"all_events": 20_000, "two_muons": 10_915, "opposite_charge": 8_276}
    assert figures["report"]["total"]["entries"] == 20_000


def test_the_demo_reads_the_users_files(command, dimuon_file, tmp_path):
    """Real CMS data gives 100,000 / 48,976 / 37,183 and 33.0394412 GeV, and the plots go where asked."""
    done = command("demo", "--files", dimuon_file, "--execution", "local", "--output", tmp_path / "plots")
    text = " ".join(done.stdout.split())
    assert "all events 100,000 exactly two muons 48,976 49.0% opposite charge 37,183 75.9%" in text
    assert "mean mass 33.0394412" in text
    assert sorted(path.name for path in (tmp_path / "plots").iterdir()) == [
        "dimuon_spectrum.pdf",
        "dimuon_spectrum.png",
    ]


def test_the_demo_reads_files_of_the_working_directory(command, dimuon_file, tmp_path):
    """A name that is relative to where the user is, read by environments, which are elsewhere."""
    (tmp_path / "data").symlink_to(Path(dimuon_file).parent)
    done = command("demo", "--files", f"data/{Path(dimuon_file).name}")
    assert done.returncode == 0
    assert_only_progress(done.stderr)
    assert "mean mass 33.0394412" in " ".join(done.stdout.split())


MISTAKES = {
    "nothing": ([], 2, "arguments are required: COMMAND"),
    "unknown command": (["draw"], 2, "invalid choice: 'draw'"),
    "unknown option": (["demo", "--colour"], 2, "unrecognized arguments: --colour"),
    "unknown execution": (["demo", "--execution", "cloud"], 2, "invalid choice: 'cloud'"),
    "no ranges": (["demo", "--npartitions", "0"], 2, "'0' is not a whole number from 1"),
    "ranges in words": (["demo", "--npartitions", "many"], 2, "'many' is not a whole number from 1"),
    "no events": (["demo", "--events", "0"], 2, "'0' is not a whole number from 1"),
    "both kinds of data": (["demo", "--files", "a.root", "--events", "5"], 2, "not allowed with"),
    "too many events": (["demo", "--events", "9" * 12], 1, "a whole number from 1 to 1,000,000,000"),
    "too much at once": (["demo", "--events", "9", "--concurrency", "99999"], 1, "number from 1 to 10000"),
    "missing file": (["demo", "--files", "/no/such.root", "--execution", "local"], 1, "/no/such.root"),
    "no directory": (["demo", "--output", "/dev/null/x"], 1, "cannot make the directory /dev/null/x"),
    "no place for figures": (["demo", "--json", "/no/such/f.json"], 1, "cannot write /no/such/f.json"),
    "generated for AWS": (["demo", "--events", "9", "--execution", "lambda"], 1, "AWS Lambda cannot read"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_clear_line(mistake, capfd, tmp_path, monkeypatch):
    """It names the value, on stderr, and nothing else is written there: no traceback, no usage."""
    arguments, status, expected = MISTAKES[mistake]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    try:
        returned = cli.main(arguments)
    except SystemExit as ended:
        returned = ended.code
    lines = capfd.readouterr().err.splitlines()
    assert returned == status
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert expected in lines[0]


def test_an_unknown_tree_is_one_clear_line(command, dimuon_file):
    """In a process as the user starts it: what the file has instead, and status 1."""
    done = command("demo", "--files", dimuon_file, "--tree", "Nope", "--execution", "local")
    assert done.returncode == 1
    assert done.stderr == f"error: {dimuon_file} holds no 'Nope': it has Events (TTree)\n"


def test_aws_without_settings_is_one_clear_line(command):
    """``--execution lambda`` on a machine that knows nothing of AWS says so at once."""
    done = command("demo", "--execution", "lambda", timeout_s=60)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_damaged_file_is_a_clear_error(command, environment, tmp_path):
    """A range that cannot be read ends the run with what became of it, and no traceback."""
    made = command("demo", "--events", 100_000, "--execution", "local", "--npartitions", 1)
    assert made.returncode == 0
    (path,) = tmp_path.glob("cache/*/*.root")
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(b"\x55" * 100_000)
    done = command("demo", "--files", path, "--npartitions", 8, "--concurrency", 2)
    assert done.returncode == 1
    # ROOT raises, or takes garbage for sizes, and ends the environment: now and then, for the same damage.
    outcomes = "the graph raised|the process ended while it ran the task|the task needed more than"
    assert re.search(f"^error: ({outcomes})", done.stderr, re.MULTILINE)
    assert str(path) in done.stderr
    assert "Traceback" not in done.stderr


def test_every_error_of_the_tree_ends_in_status_1(monkeypatch, capsys):
    """Whatever a command raises of `DaskRootLambdaError` is printed, not traced."""

    def fail(args):
        raise DaskRootLambdaError("it rained", task="range-7")

    monkeypatch.setitem(COMMANDS, "demo", Command("Fail", lambda parser: None, fail))
    assert cli.main(["demo"]) == 1
    assert capsys.readouterr().err == "error: it rained [task range-7]\n"


def test_without_the_emulators_packages_the_error_says_what_to_install():
    """The other commands work; ``emulate`` names the package and the extra."""
    code = (
        "import sys\n"
        "sys.modules['moto'] = None\n"
        "from dask_root_lambda import cli\n"
        "sys.exit(cli.main(['emulate']))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert "pip install 'dask-root-lambda[emulator]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_emulator_that_cannot_start_is_one_clear_line(command):
    """A setting out of range ends in status 1, without a traceback."""
    done = command("emulate", "--account-concurrency", 0)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.lower().startswith("error")
    assert "account_concurrency must be at least 1" in done.stderr
    assert done.stderr.count("\n") == 1


def test_emulate_serves_aws_until_it_is_stopped(started):
    """Its first line exports the endpoint, which answers; Ctrl-C ends it in order."""
    process = started("emulate", "--port", "0")
    export, _, endpoint = line_of(process).strip().partition("=")
    assert export == "export AWS_ENDPOINT_URL"
    with urllib.request.urlopen(f"{endpoint}/2015-03-31/functions", timeout=30) as answer:
        assert json.load(answer)["Functions"] == []
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0


def _ranges_run(family, execution):
    """Tell whether ranges are on their way: beside the frame, they have opened the file; environments run."""
    if execution == "local":
        return sum("dimuon" in file.path for file in family.open_files()) > 1
    return any("awslambdaric" in " ".join(child.cmdline()) for child in family.children(recursive=True))


@pytest.mark.parametrize("execution", ["emulated", "local"])
def test_ctrl_c_ends_a_run_within_seconds_and_leaves_nothing(execution, started, tmp_path):
    """In the middle of the ranges: status 130, one line, no process left, no half-written plot."""
    process = started("demo", "--execution", execution, "--events", 300_000, "--npartitions", 64)
    assert "300,000 generated events" in line_of(process)
    family = psutil.Process(process.pid)
    wait_until(lambda: _ranges_run(family, execution), timeout_s=60)
    children = family.children(recursive=True)
    process.send_signal(signal.SIGINT)
    # Two seconds where nothing else runs; on a busy machine a thread may have to compile before it is asked.
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert said.splitlines()[-1] == "interrupted"
    assert "Traceback" not in said
    wait_until(lambda: not [child for child in children if child.is_running()], timeout_s=10)
    assert not list(tmp_path.glob("dimuon_spectrum.*"))


def test_ctrl_c_while_events_are_generated_leaves_no_file(started, tmp_path):
    """The cache is as it was."""
    process = started("demo", "--events", 100_000_000)
    wait_until(lambda: list(tmp_path.glob("cache/*/.*.partial.root")), timeout_s=60)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert (process.returncode, said) == (130, "interrupted\n")
    assert list((tmp_path / "cache" / "dask-root-lambda").iterdir()) == []


def test_output_that_nobody_reads_is_no_error(started):
    """``dask-root-lambda demo | head -1`` ends without a traceback."""
    process = started("demo", "--execution", "local", "--events", 1000, "--npartitions", 1)
    line_of(process)
    process.stdout.close()
    process.stdout = None
    _, said = process.communicate(timeout=60)
    assert "Traceback" not in said
