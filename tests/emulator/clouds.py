"""An AWS for the tests, with functions of the stub handlers in it."""

from __future__ import annotations

import base64
import io
import json
import sys
import time
import uuid
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from dask_root_lambda.emulator import Emulator

HANDLERS = Path(__file__).with_name("stub_handlers.py")
ROLE = "arn:aws:iam::123456789012:role/tests"
PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"


@dataclass(frozen=True)
class Answer:
    """What Invoke returned."""

    response: dict[str, Any]
    payload: Any

    @property
    def error(self) -> str | None:
        return self.response.get("FunctionError")

    @property
    def log(self) -> str:
        return base64.b64decode(self.response["LogResult"]).decode()


@dataclass
class Cloud:
    """Clients of one AWS, and functions that end with the test."""

    clients: Callable[[str], Any]
    role: str
    real: bool
    emulator: Emulator | None = None
    _functions: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.lambda_ = self.clients("lambda")

    def unique(self, name: str) -> str:
        """A name that nothing else has: emulators of one process share S3 and the rest of moto."""
        return f"{name}-{uuid.uuid4().hex[:12]}"

    def deploy(self, handler: str, **settings: Any) -> str:
        """Create a function that runs one of the stub handlers, and return its name."""
        name = self.unique(f"test-{handler.replace('_', '-')}")
        self.lambda_.create_function(
            FunctionName=name,
            Runtime=PYTHON if not self.real else "python3.12",
            Handler=f"stub_handlers.{handler}",
            Role=self.role,
            Code={"ZipFile": archive()},
            **settings,
        )
        self._functions.append(name)
        if self.real:
            self.lambda_.get_waiter("function_active_v2").wait(FunctionName=name)
        return name

    def invoke(self, name: str, event: Any = None, **settings: Any) -> Answer:
        """Invoke a function with its log."""
        settings.setdefault("LogType", "Tail")
        response = self.lambda_.invoke(FunctionName=name, Payload=json.dumps(event), **settings)
        text = response["Payload"].read()
        return Answer(response, json.loads(text) if text else None)

    def clean(self) -> None:
        """Delete the test's functions."""
        while self._functions:
            try:
                self.lambda_.delete_function(FunctionName=self._functions.pop())
            except self.lambda_.exceptions.ResourceNotFoundException:
                continue


def archive(source: str = HANDLERS.read_text()) -> bytes:
    """The stub handlers, or other source in their place, as Lambda wants code."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as opened:
        # A fixed date: the same code has the same hash.
        opened.writestr(zipfile.ZipInfo("stub_handlers.py", (2026, 1, 1, 0, 0, 0)), source)
    return buffer.getvalue()


def clients_of(emulator: Emulator, **settings: Any) -> Callable[[str], Any]:
    """Clients of an emulator that never try twice and wait for no more than half a minute."""
    config = Config(
        retries={"total_max_attempts": 1}, read_timeout=30, connect_timeout=5, max_pool_connections=300
    )

    def client(service: str) -> Any:
        return boto3.client(
            service,
            endpoint_url=emulator.endpoint,
            region_name=emulator.options.region,
            config=config,
            **{"aws_access_key_id": "test", "aws_secret_access_key": "test", **settings},
        )

    return client


def wait_until(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    """Wait for something that happens soon; fail if it does not."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"did not happen within {timeout_s} s")
        time.sleep(0.01)


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
