"""The emulator as a command, and what is left of it however it ends."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from dask_root_lambda.emulator import Emulator
from dask_root_lambda.emulator.__main__ import _describe

from .clouds import ROLE, alive, wait_until

pytestmark = pytest.mark.timeout(60)

COMMAND = (sys.executable, "-m", "dask_root_lambda.emulator")


class Command:
    """The emulator in a process, with a function that runs in it."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        self.directory = directory
        (directory / "code").mkdir(exist_ok=True)
        source = Path(__file__).with_name("stub_handlers.py").read_text()
        (directory / "code" / "stub_handlers.py").write_text(source)
        (directory / "tmp").mkdir(exist_ok=True)
        self.process = subprocess.Popen(
            [*COMMAND, "--python-path", str(directory / "code"), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "TMPDIR": str(directory / "tmp")},
        )
        assert self.process.stdout is not None
        self.ready: dict[str, str] = json.loads(self.process.stdout.readline())

    def client(self) -> Any:
        return boto3.client(
            "lambda",
            endpoint_url=self.ready["endpoint"],
            region_name=self.ready["region"],
            aws_access_key_id="test",
            aws_secret_access_key="test",
            config=Config(retries={"total_max_attempts": 1}, read_timeout=30),
        )

    def start_sleeper(self) -> int:
        """Run a handler that sleeps, and return its process id."""
        client, file = self.client(), self.directory / "running"
        client.create_function(
            FunctionName="sleeper", PackageType="Image", Role=ROLE, Timeout=60,
            Code={"ImageUri": "any/image:1"}, ImageConfig={"Command": ["stub_handlers.sleep"]},
        )  # fmt: skip
        payload = json.dumps({"seconds": 50, "touch": str(file)})

        def invoke() -> None:
            # It ends as an error of some kind: the test ends the emulator under it.
            with contextlib.suppress(ClientError, BotoCoreError):
                client.invoke(FunctionName="sleeper", Payload=payload)

        threading.Thread(target=invoke, daemon=True).start()
        wait_until(lambda: file.exists() and bool(file.read_text()))
        return int(file.read_text())

    def files(self) -> list[Path]:
        return list((self.directory / "tmp").iterdir())


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Any]:
    started: list[Command] = []

    def start(*arguments: str) -> Command:
        started.append(Command(tmp_path, *arguments))
        return started[-1]

    yield start
    for each in started:
        each.process.kill()
        each.process.wait(10)
        for stream in (each.process.stdin, each.process.stdout):
            if stream is not None:
                stream.close()


def test_one_line_tells_where_it_is(command: Any) -> None:
    """The first line of stdout is JSON with endpoint and region, on loopback."""
    ready = command("--region", "eu-central-1").ready
    assert ready["endpoint"].startswith("http://127.0.0.1:")
    assert ready["region"] == "eu-central-1"


def test_a_shell_is_told_what_to_export(tmp_path: Path) -> None:
    """With --output shell, what is printed makes the AWS tools use the emulator."""
    with subprocess.Popen(
        [*COMMAND, "--output", "shell", "--exit-with-stdin"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline().strip() for _ in range(6)]
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(10) == 0
    assert lines[0].startswith("export AWS_ENDPOINT_URL=http://127.0.0.1:")
    assert lines[1] == "export AWS_DEFAULT_REGION=us-east-1"
    assert [line.split("=")[0] for line in lines[2:4]] == [
        "export AWS_ACCESS_KEY_ID",
        "export AWS_SECRET_ACCESS_KEY",
    ]
    assert lines[4] == "export AWS_REGION=us-east-1"
    assert lines[5].startswith("unset ")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, False),
        ({"host": "localhost"}, False),
        ({"host": "127.9.9.9"}, False),
        ({"host": "::1"}, False),
        ({"iam": True}, True),
        ({"host": "0.0.0.0"}, True),
        ({"host": "a.name"}, True),
    ],
)
@pytest.mark.parametrize("output", ["json", "shell"])
def test_the_key_is_told_where_somebody_needs_it(options: dict[str, Any], told: bool, output: str) -> None:
    """The user's processes need none; a file with what is printed would let others in who can read it."""
    emulator = Emulator(**options)
    emulator.access_key_id, emulator.secret_access_key = "AKIAKEY", "the-secret"
    assert ("the-secret" in _describe(emulator, output)) is told


def test_exports_are_quoted(tmp_path: Path) -> None:
    """What a shell would take apart arrives in one piece."""
    emulator = Emulator(region="us-east-1", iam=True, certificate=tmp_path / "it's a; certificate.pem")
    emulator.endpoint, emulator.secret_access_key = "http://127.0.0.1:1", "a b$c"
    script = _describe(emulator, "shell") + '\nprintf "%s|" "$AWS_SECRET_ACCESS_KEY" "$AWS_CA_BUNDLE"'
    said = subprocess.run(["sh", "-c", script], capture_output=True, text=True, timeout=10, check=True)
    assert said.stdout == f"a b$c|{tmp_path}/it's a; certificate.pem|"


def aws_cli() -> str:
    """The AWS CLI, if this machine has one that runs."""
    path = shutil.which("aws")
    if path is None:
        pytest.skip("the AWS CLI is not installed")
    if subprocess.run([path, "--version"], capture_output=True, timeout=60, check=False).returncode != 0:
        pytest.skip("the AWS CLI is installed, and does not run")
    return path


def test_the_aws_cli_works(command: Any, tmp_path: Path) -> None:
    """As README says: with what is exported, the AWS CLI makes functions, lists them and invokes them."""
    aws, directory = aws_cli(), tmp_path / "code"
    emulator = Emulator(python_path=(str(directory),))
    emulator.endpoint = command().ready["endpoint"]
    script = f"""
set -e
{_describe(emulator, "shell")}
aws={shlex.quote(aws)}
"$aws" lambda create-function --function-name f --package-type Image --role {ROLE} \\
    --code ImageUri=any/image:1 --image-config Command=stub_handlers.echo
"$aws" lambda list-functions
"$aws" lambda invoke --function-name f --payload fileb://event.json answer.json
cat answer.json
"""
    (tmp_path / "event.json").write_text('{"n": 1}')
    said = subprocess.run(
        ["sh", "-c", script], capture_output=True, text=True, timeout=50, check=False, cwd=tmp_path
    )
    assert said.returncode == 0, said.stderr
    assert '"FunctionName": "f"' in said.stdout
    assert said.stdout.endswith('{"n": 1}')


def test_images_and_faults_come_from_files(command: Any, tmp_path: Path) -> None:
    """--images tells what a URI stands for, --faults what goes wrong."""
    (tmp_path / "images.yaml").write_text("'*/muons:*': {handler: stub_handlers.echo}\n")
    (tmp_path / "faults.yaml").write_text("lambda: [{kind: throttle, invocations: [2]}]\n")
    files = ("--images", str(tmp_path / "images.yaml"), "--faults", str(tmp_path / "faults.yaml"))
    client = command(*files).client()
    client.create_function(
        FunctionName="f", PackageType="Image", Role=ROLE, Code={"ImageUri": "registry/muons:1"}
    )
    assert client.invoke(FunctionName="f", Payload=b"1")["Payload"].read() == b"1"
    with pytest.raises(client.exceptions.TooManyRequestsException):
        client.invoke(FunctionName="f")


def test_directories_of_handlers_may_be_relative(command: Any, tmp_path: Path) -> None:
    """--python-path is relative to where the command was given, not to where an environment runs."""
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "greeting.py").write_text("def handler(event, context): return 'hello'\n")
    client = command("--python-path", os.path.relpath(tmp_path / "more")).client()
    client.create_function(
        FunctionName="f", PackageType="Image", Role=ROLE, Code={"ImageUri": "any/image:1"},
        ImageConfig={"Command": ["greeting.handler"]},
    )  # fmt: skip
    assert client.invoke(FunctionName="f")["Payload"].read() == b'"hello"'


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--account-concurrency", "0"], "account_concurrency"),
        (["--idle-timeout", "-1"], "idle_timeout_s"),
        (["--settle", "-1"], "settle_s"),
        (["--private-key", "key.pem"], "certificate"),
        (["--faults", "missing.yaml"], "missing.yaml"),
        (["--images", "missing.yaml"], "missing.yaml"),
        (["--certificate", "missing.pem"], "No such file"),
    ],
)
def test_wrong_options_are_explained(arguments: list[str], words: str) -> None:
    """Status 1 and a message that names what is wrong, without a traceback."""
    ended = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 1
    assert words in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_and_all_that_it_started(command: Any, number: signal.Signals) -> None:
    """SIGTERM and SIGINT end environments and files, with exit status 0."""
    emulator = command()
    pid = emulator.start_sleeper()
    emulator.process.send_signal(number)
    assert emulator.process.wait(10) == 0
    assert not alive(pid)
    assert emulator.files() == []


def test_the_end_of_stdin_ends_it(command: Any) -> None:
    """With --exit-with-stdin, the emulator ends when its parent does, and not before."""
    emulator = command("--exit-with-stdin")
    pid = emulator.start_sleeper()
    assert emulator.process.poll() is None
    emulator.process.stdin.close()
    assert emulator.process.wait(10) == 0
    assert not alive(pid)


def test_nothing_survives_a_kill(command: Any) -> None:
    """After kill -9 of the emulator, its environments and files are gone."""
    emulator = command()
    pid = emulator.start_sleeper()
    emulator.process.kill()
    emulator.process.wait(10)
    wait_until(lambda: not alive(pid))
    wait_until(lambda: emulator.files() == [])


def test_nothing_survives_a_kill_of_the_warden(command: Any) -> None:
    """After kill -9 of the process that keeps the environments, the emulator ends them itself."""
    emulator = command()
    pid = emulator.start_sleeper()
    warden = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(warden, signal.SIGKILL)
    # The last process of a mount namespace takes it down, which a busy kernel may put off.
    wait_until(lambda: not alive(pid), 30)


def test_nothing_survives_a_program_whose_fork_lives_on(tmp_path: Path) -> None:
    """An emulator in a thread ends with its program, though a fork of that holds its files open."""
    script = f"""
import json, os, sys, threading, time
sys.path.insert(0, {str(Path(__file__).parent)!r})
import boto3
from dask_root_lambda.emulator import Emulator

emulator = Emulator(python_path=({str(Path(__file__).parent)!r},))
emulator.start()
keys = {{"aws_access_key_id": "a", "aws_secret_access_key": "b"}}
client = boto3.client("lambda", endpoint_url=emulator.endpoint, region_name="us-east-1", **keys)
client.create_function(FunctionName="f", PackageType="Image", Role={ROLE!r}, Code={{"ImageUri": "i"}},
                       ImageConfig={{"Command": ["stub_handlers.describe"]}})
pid = json.loads(client.invoke(FunctionName="f", Payload=b"{{}}")["Payload"].read())["pid"]
fork = os.fork()
if fork == 0:
    time.sleep(60)
    os._exit(0)
print(pid, fork, flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        pid, fork = map(int, program.stdout.readline().split())
        program.kill()
        try:
            wait_until(lambda: not alive(pid))
            assert alive(fork)
        finally:
            os.kill(fork, signal.SIGKILL)


def test_a_port_in_use_is_an_error(command: Any) -> None:
    """A port that is taken gives a message and status 1, not a traceback."""
    port = command().ready["endpoint"].rpartition(":")[2]
    second = subprocess.run(
        [*COMMAND, "--port", port], capture_output=True, text=True, timeout=30, check=False
    )
    assert second.returncode == 1
    assert port in second.stderr
    assert "Traceback" not in second.stderr
