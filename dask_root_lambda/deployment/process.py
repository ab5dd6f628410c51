"""Programs that are run for a deployment: with a deadline, the end of their output in the error."""

from __future__ import annotations

import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from dask_root_lambda.protocol.errors import DeploymentError

_END_TIMEOUT_S = 60.0
"""How long an interrupted program may take: Terraform finishes what it is at, and saves its state."""

_KEPT_LINES = 40


def run(
    argv: Sequence[str],
    *,
    say: Callable[[str], None],
    timeout_s: float,
    environment: Mapping[str, str] | None = None,
    directory: Path | None = None,
    stdin: str = "",
    accepted: Sequence[int] = (0,),
) -> int:
    """Run a program to its end.

    Parameters
    ----------
    argv
        Program and arguments; nothing secret.
    say
        Is given each line that it writes, standard error included.
    timeout_s
        Seconds that it may take.
    environment
        Its environment variables; None for ours.
    directory
        Where it runs.
    stdin
        What it reads.
    accepted
        Exit statuses that are no failure.

    Returns
    -------
    int
        Its exit status.

    Raises
    ------
    DeploymentError
        It failed or took too long, with the end of what it wrote.
    """
    # A session of its own: Ctrl-C is passed on once, and not sent twice, at which Terraform gives up at once.
    process = subprocess.Popen(
        list(argv),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=environment,
        cwd=directory,
        start_new_session=True,
    )
    last: deque[str] = deque(maxlen=_KEPT_LINES)
    reader = threading.Thread(target=_read, args=(process, say, last), daemon=True)
    reader.start()
    assert process.stdin is not None
    try:
        process.stdin.write(stdin)
        process.stdin.close()
        status = process.wait(timeout_s)
    except BrokenPipeError:
        status = process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        _end(process)
        raise DeploymentError(f"{_name(argv)} took longer than {timeout_s:g} s. {_tail(last)}") from None
    except BaseException:
        _end(process)
        raise
    reader.join(_END_TIMEOUT_S)
    if status not in accepted:
        raise DeploymentError(f"{_name(argv)} failed with status {status}. {_tail(last)}")
    return status


def read(argv: Sequence[str], *, timeout_s: float, environment: Mapping[str, str], directory: Path) -> str:
    """Run a program that changes nothing, and return what it writes to its standard output.

    Raises
    ------
    DeploymentError
        It failed or took too long.
    """
    try:
        done = subprocess.run(
            list(argv),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            env=environment,
            cwd=directory,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise DeploymentError(f"{_name(argv)} took longer than {timeout_s:g} s") from None
    if done.returncode != 0:
        raise DeploymentError(f"{_name(argv)} failed. {_tail(done.stderr.splitlines()[-_KEPT_LINES:])}")
    return done.stdout


def _read(process: subprocess.Popen[str], say: Callable[[str], None], last: deque[str]) -> None:
    assert process.stdout is not None
    with process.stdout as output:
        for line in output:
            last.append(line.rstrip())
            say(line.rstrip())


def _end(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGINT)
    try:
        process.wait(_END_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _name(argv: Sequence[str]) -> str:
    words = [word for word in argv[1:] if not word.startswith("-")]
    return " ".join((argv[0].rpartition("/")[2], *words[:1]))


def _tail(lines: Sequence[str]) -> str:
    """Show the end of the output, from the error on where one is marked."""
    shown = list(lines)
    starts = [index for index, line in enumerate(shown) if line.startswith("Error:")]
    shown = shown[starts[0] :] if starts else shown
    return "It wrote:\n" + "\n".join(shown) if shown else "It wrote nothing."
