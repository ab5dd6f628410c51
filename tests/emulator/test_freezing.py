"""Between events nothing runs, as on AWS.

https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from threading import Thread

import pytest

from dask_root_lambda.emulator import Emulator

from .clouds import Cloud, alive, archive, wait_until

pytestmark = pytest.mark.timeout(60)

OwnCloud = Callable[..., Cloud]

SOURCE = """
import os, subprocess, sys, threading, time
from pathlib import Path

count = 0

def run():
    global count
    while True:
        time.sleep(0.01)
        count += 1

def echo(event, context):
    if "timer" in event:
        threading.Timer(0.3, Path(event["timer"]).touch).start()
    if "spawn" in event:
        wait = [sys.executable, "-c", "import time; time.sleep(600)"]
        return [os.getpid(), subprocess.Popen(wait).pid, subprocess.Popen(wait, start_new_session=True).pid]
    if "wait" in event:
        time.sleep(event["wait"])
    if not any(thread.name == "counter" for thread in threading.enumerate()):
        threading.Thread(target=run, name="counter", daemon=True).start()
    return {"count": count, "pid": os.getpid(), "cpu": time.process_time()}
"""


def deploy(cloud: Cloud, snapstart: bool = False) -> dict[str, str]:
    """Deploy the handler above; return how to invoke it."""
    settings = {"SnapStart": {"ApplyOn": "PublishedVersions"}} if snapstart else {}
    name = cloud.deploy("echo", Timeout=20, **settings)
    cloud.lambda_.update_function_code(FunctionName=name, ZipFile=archive(SOURCE))
    if not snapstart:
        return {"name": name}
    version = cloud.lambda_.publish_version(FunctionName=name)["Version"]
    cloud.lambda_.get_waiter("function_active_v2").wait(FunctionName=name, Qualifier=version)
    return {"name": name, "Qualifier": version}


def stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


@pytest.mark.parametrize("snapstart", [False, True])
def test_a_thread_does_not_go_on_between_events(own_cloud: OwnCloud, snapstart: bool) -> None:
    """A counter stands still while its environment is idle, and counts on in the next event."""
    cloud = own_cloud()
    function = deploy(cloud, snapstart)
    first = cloud.invoke(event={}, **function).payload
    wait_until(lambda: stopped(first["pid"]))
    before = cloud.invoke(event={"wait": 0.2}, **function).payload
    assert before["count"] > first["count"] + 5
    wait_until(lambda: stopped(before["pid"]))
    time.sleep(0.5)
    after = cloud.invoke(event={}, **function).payload
    assert after["pid"] == first["pid"]
    # It would be 50; an event takes a few milliseconds.
    assert after["count"] - before["count"] < 20


def test_a_timer_fires_in_the_next_event(own_cloud: OwnCloud, tmp_path: Path) -> None:
    """What is due while an environment is idle happens as soon as it has something to do."""
    cloud = own_cloud()
    function = deploy(cloud)
    fired = tmp_path / "fired"
    pid = cloud.invoke(event={"timer": str(fired)}, **function).payload["pid"]
    wait_until(lambda: stopped(pid))
    time.sleep(0.5)
    assert not fired.exists()
    cloud.invoke(event={"wait": 0.2}, **function)
    assert fired.exists()


def test_all_processes_of_an_environment_are_frozen(own_cloud: OwnCloud) -> None:
    """Children too, also one that left the process group; they end with the environment all the same."""
    cloud = own_cloud()
    function = deploy(cloud)
    pids = cloud.invoke(event={"spawn": 2}, **function).payload
    wait_until(lambda: all(map(stopped, pids)))
    cloud.invoke(event={}, **function)
    wait_until(lambda: all(map(stopped, pids)))
    cloud.lambda_.delete_function(FunctionName=function["name"])
    wait_until(lambda: not any(map(alive, pids)))


def test_children_go_on_with_the_next_event(own_cloud: OwnCloud) -> None:
    """While an event runs, none of the processes is stopped."""
    cloud = own_cloud()
    function = deploy(cloud)
    pids = cloud.invoke(event={"spawn": 2}, **function).payload
    wait_until(lambda: all(map(stopped, pids)))
    running = Thread(target=cloud.invoke, kwargs={"event": {"wait": 2}, **function})
    running.start()
    wait_until(lambda: not any(map(stopped, pids)))
    running.join()


def test_a_frozen_environment_that_is_killed_is_replaced(own_cloud: OwnCloud) -> None:
    """Its end is noticed, and an event after that runs in another."""
    cloud = own_cloud()
    assert isinstance(cloud.emulator, Emulator)
    function = deploy(cloud)
    pid = cloud.invoke(event={}, **function).payload["pid"]
    wait_until(lambda: stopped(pid))
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: cloud.emulator.state()["environments"] == 0)
    assert cloud.invoke(event={}, **function).payload["pid"] != pid


def test_frozen_environments_end_with_the_emulator(own_cloud: OwnCloud) -> None:
    """stop() ends what is stopped, too."""
    cloud = own_cloud()
    assert isinstance(cloud.emulator, Emulator)
    pids = cloud.invoke(event={"spawn": 2}, **deploy(cloud)).payload
    wait_until(lambda: all(map(stopped, pids)))
    cloud.emulator.stop()
    assert not any(map(alive, pids))
