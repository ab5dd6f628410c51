"""The emulated execution: an emulator in a process of its own, with a bucket and a function in it."""

from __future__ import annotations

import importlib.util
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from dask_root_lambda.config import Settings
from dask_root_lambda.invocation import aws
from dask_root_lambda.invocation.invokers import AwsInvoker
from dask_root_lambda.invocation.tiers import Larger
from dask_root_lambda.protocol.errors import ConfigurationError, InitError
from dask_root_lambda.protocol.store import EMULATED_KEY, STORE_VARIABLE
from lambda_runtime.remote import access

_REGION = "us-east-1"
_NAME = "dask-root-lambda"
"""Name of the function and of the bucket."""
_ROLE = f"arn:aws:iam::123456789012:role/{_NAME}"
_HANDLER = "lambda_runtime.handler.handler"
_STOP_TIMEOUT_S = 10.0


def missing() -> str:
    """Say what has to be installed for it; empty where nothing has."""
    absent = [name for name in ("moto", "awslambdaric") if importlib.util.find_spec(name) is None]
    if not absent:
        return ""
    return f"emulated execution needs {' and '.join(absent)}: pip install 'dask-root-lambda[emulator]'"


class EmulatedInvoker(AwsInvoker):
    """Invokes a function of an emulator that it starts, and ends when closed.

    Raises
    ------
    ConfigurationError
        The extra ``emulator`` is not installed.
    InitError
        The emulator did not start, with what it wrote.
    """

    def __init__(self, settings: Settings) -> None:
        chance = {"--faults": settings.faults, "--seed": settings.seed}
        given = [str(item) for pair in chance.items() if pair[1] is not None for item in pair]
        # Not as variables of the function, which everybody may ask for who may look at it.
        users = access.users_variables()
        inherited = [f"--inherit={name}" for name in users]
        self._process = EmulatorProcess(settings.start_timeout_s, [*given, *inherited], users)
        try:
            own = replace(
                settings,
                endpoint_url=self._process.endpoint,
                region=_REGION,
                profile=None,
                function=_NAME,
                qualifier=None,
                store=None,
            )
            session = aws.Session(own, keys=(EMULATED_KEY, EMULATED_KEY))
            larger = [(mb, f"{_NAME}-{mb}") for mb in settings.memory_tiers_mb if mb > settings.memory_mb]
            qualifier = _deploy(session, own, [(settings.memory_mb, _NAME), *larger])
            super().__init__(replace(own, qualifier=qualifier), "emulated", session, larger)
        except BaseException:
            self._process.stop()
            raise

    def close(self) -> None:
        """End the emulator, and with it every execution environment."""
        super().close()
        self._process.stop()


def _deploy(session: aws.Session, settings: Settings, tiers: Larger) -> str | None:
    """Make the bucket and the functions, as Terraform does in AWS; return the version of each to invoke."""
    with aws.translated("the emulated function could not be made"):
        session.client("s3").create_bucket(Bucket=_NAME)
        versions = [
            _make_function(session.client("lambda"), settings, *tier) for tier in dict.fromkeys(tiers)
        ]
    return versions[0]


def _make_function(client: Any, settings: Settings, memory_mb: int, name: str) -> str | None:
    client.create_function(
        FunctionName=name,
        Role=_ROLE,
        PackageType="Image",
        Code={"ImageUri": f"{_NAME}:emulated"},
        ImageConfig={"Command": [_HANDLER]},
        MemorySize=memory_mb,
        Timeout=settings.timeout_s,
        Environment={"Variables": {STORE_VARIABLE: f"s3://{_NAME}"}},
        SnapStart={"ApplyOn": "PublishedVersions" if settings.snapstart else "None"},
    )
    if not settings.snapstart:
        return None
    version = str(client.publish_version(FunctionName=name)["Version"])
    # The version is pending while the environment that is copied starts and compiles.
    client.get_waiter("function_active_v2").wait(FunctionName=name, Qualifier=version)
    return version


class EmulatorProcess:
    """The emulator as a process. It ends with this one, however this one ends.

    Parameters
    ----------
    start_timeout_s
        Seconds it may take until it serves.
    arguments
        More options of ``python -m dask_root_lambda.emulator``.
    variables
        More environment variables of its process.
    """

    def __init__(
        self,
        start_timeout_s: float,
        arguments: Sequence[str] = (),
        variables: Mapping[str, str] | None = None,
    ) -> None:
        if reason := missing():
            raise ConfigurationError(reason)
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  (closed by stop)
        # Its standard input closes with this process, also after kill -9. A session of its own keeps the
        # terminal's Ctrl-C from it: the run is stopped here, in order.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "dask_root_lambda.emulator", *_ARGUMENTS, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            start_new_session=True,
            text=True,
            env=_without_aws(os.environ) | dict(variables or {}),
        )
        try:
            self.endpoint = self._wait_until_ready(start_timeout_s)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End it and everything it started."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        # A fork of this process, as multiprocessing makes them, may hold the other end of it open.
        self._process.terminate()
        try:
            self._process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._log.close()

    def _wait_until_ready(self, timeout_s: float) -> str:
        lines: queue.Queue[str] = queue.Queue()
        assert self._process.stdout is not None
        threading.Thread(
            target=lambda out: lines.put(out.readline()), args=(self._process.stdout,), daemon=True
        ).start()
        try:
            line = lines.get(timeout=timeout_s)
        except queue.Empty:
            line = ""
        if not line:
            self._log.seek(0)
            said = self._log.read().decode(errors="replace")[-2000:]
            raise InitError(
                f"the emulator did not start within {timeout_s:g} s; it wrote: {said or 'nothing'}"
            )
        return str(json.loads(line)["endpoint"])


def _without_aws(variables: Mapping[str, str]) -> dict[str, str]:
    """Leave out what tells who the user is on AWS; not the certificates that the user trusts."""
    return {
        name: value
        for name, value in variables.items()
        if not name.startswith("AWS_") or name == "AWS_CA_BUNDLE"
    }


_ARGUMENTS = ("--port", "0", "--region", _REGION, "--exit-with-stdin", "--stop-on-disconnect")
