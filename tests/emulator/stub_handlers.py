"""Handlers that the tests put into functions; one behaviour each."""

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

count = 0


def echo(event, context):
    return event


def describe(event, context):
    """Who runs here, and what the runtime tells the handler."""
    global count
    count += 1
    return {
        "pid": os.getpid(),
        "count": count,
        "request_id": context.aws_request_id,
        "arn": context.invoked_function_arn,
        "version": context.function_version,
        "memory_mb": context.memory_limit_in_mb,
        "remaining_ms": context.get_remaining_time_in_millis(),
        "client_context": context.client_context.custom if context.client_context else None,
        "variables": dict(os.environ),
        "tmp": os.environ.get("TMPDIR", "/tmp"),
    }


def write_log(event, context):
    print(event["text"])
    print("to stderr", file=sys.stderr)


def write_forever(event, context):
    while True:
        sys.stdout.write("x" * 1000 + "\n")


def raise_error(event, context):
    raise ValueError(event.get("message", "boom"))


def leave(event, context):
    os._exit(event["status"])


def die(event, context):
    os.kill(os.getpid(), event.get("signal", signal.SIGKILL))
    time.sleep(60)


def crash(event, context):
    ctypes.string_at(0)


def sleep(event, context):
    path = event.get("touch")
    if path:
        Path(path).write_text(str(os.getpid()))
    time.sleep(event["seconds"])
    return "awake"


def wait(event, context):
    """Tell that it runs, and go on when it is told to."""
    Path(event["touch"]).write_text(str(os.getpid()))
    while not Path(event["until"]).exists():
        time.sleep(0.02)
    return "awake"


def meet(event, context):
    """Return when enough others are here as well."""
    here = Path(event["directory"])
    (here / str(os.getpid())).touch()
    while len(list(here.iterdir())) < event["count"]:
        time.sleep(0.05)
    return os.getpid()


def grow(event, context):
    block = bytearray(event["mb"] << 20)
    block[::4096] = b"x" * len(block[::4096])
    time.sleep(event.get("seconds", 0))
    return len(block)


def grow_in_child(event, context):
    code = f"b = bytearray({event['mb']} << 20); b[::4096] = b'x' * len(b[::4096]); input()"
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)
    child.wait(30)


def return_large(event, context):
    return "x" * event["size"]


def leave_children(event, context):
    """Start a process in the group and one that left it, and tell their numbers."""
    stay = [sys.executable, "-c", "import time; time.sleep(600)"]
    return [
        subprocess.Popen(stay).pid,
        subprocess.Popen(stay, start_new_session=True).pid,
    ]


def put_object(event, context):
    import boto3

    boto3.client("s3").put_object(Bucket=event["bucket"], Key=event["key"], Body=json.dumps(event).encode())


def not_json(event, context):
    return {1, 2}
