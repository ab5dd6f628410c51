"""Who may speak to an emulator: its user's processes, and who has its key; no other user, no web page."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from dask_root_lambda.emulator import Emulator, peers
from dask_root_lambda.emulator.endpoint import Exchange, HttpServer, Response
from dask_root_lambda.emulator.networks import ContainerNetwork

from .clouds import ROLE, Cloud

pytestmark = pytest.mark.timeout(60)

NOBODY = 65534
OwnCloud = Callable[..., Cloud]

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")

# An interpreter in a home directory cannot be started by others: it becomes another user once it runs.
BECOME = f"import encodings.idna, os; os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})\n"
ASK = f"""
import http.client, sys
{BECOME}
port, method, path, body, target = int(sys.argv[1]), *sys.argv[2:]
connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
connection.request(method, path, body=body or None, headers={{"X-Amz-Target": target}} if target else {{}})
answer = connection.getresponse()
print(answer.status, answer.read().decode(errors="replace"))
"""
SIGN = f"""
import boto3, sys
key = {{"aws_access_key_id": sys.argv[2], "aws_secret_access_key": sys.argv[3]}}
first, client = (
    boto3.client("lambda", endpoint_url=sys.argv[1], region_name="us-east-1", **key) for _ in range(2)
)
first.list_functions()  # imports what it needs
{BECOME}
print(len(client.list_functions()["Functions"]))
"""
SEND = f"""
import socket, sys
{BECOME}
socket.create_connection(("127.0.0.1", int(sys.argv[1]))).send(b"x")
"""


def run_as_nobody(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a script in a process that becomes another user."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def ask_as_nobody(port: int, method: str, path: str, body: str = "", target: str = "") -> tuple[int, str]:
    """Send a request as another user."""
    told = run_as_nobody(ASK, port, method, path, body, target)
    assert told.returncode == 0, told.stderr
    status, _, text = told.stdout.partition(" ")
    return int(status), text


def ask(port: int, path: str = "/", method: str = "GET", **headers: str) -> int:
    """Send a request with headers of our choice; the status of the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.putrequest(method, path, skip_host="Host" in names)
    for name, value in names.items():
        connection.putheader(name, value)
    connection.putheader("Content-Length", "0")
    connection.endheaders()
    status = connection.getresponse().status
    connection.close()
    return status


def port_of(emulator: Emulator) -> int:
    return int(emulator.endpoint.rpartition(":")[2])


def listening() -> set[int]:
    return {each.laddr.port for each in psutil.Process().net_connections("tcp") if each.status == "LISTEN"}


@pytest.fixture
def running(own_cloud: OwnCloud) -> tuple[Cloud, str, int]:
    """A cloud with an environment that waits for events: function, and the port of its Runtime API."""
    before = listening()
    cloud = own_cloud()
    name = cloud.deploy("echo")
    assert cloud.invoke(name, 1).payload is not None
    assert cloud.emulator is not None
    (port,) = listening() - before - {port_of(cloud.emulator)}
    return cloud, name, port


@needs_root
def test_another_user_can_neither_invoke_nor_read(running: tuple[Cloud, str, int]) -> None:
    """Without the key, a process of another user gets no function, no object and no state of the emulator."""
    cloud, name, _ = running
    assert cloud.emulator is not None
    port, functions = port_of(cloud.emulator), "/2015-03-31/functions"
    bucket = cloud.unique("bucket")
    cloud.clients("s3").create_bucket(Bucket=bucket)
    cloud.clients("s3").put_object(Bucket=bucket, Key="key", Body=b"private")
    for method, path, body, target in (
        ("POST", f"{functions}/{name}/invocations", "1", ""),
        ("POST", functions, json.dumps({"FunctionName": "mine", "Role": ROLE}), ""),
        ("GET", functions, "", ""),
        ("GET", f"/{bucket}/key", "", ""),
        ("PUT", f"/{bucket}/other", "x", ""),
        ("POST", "/", "{}", "Logs_20140328.DescribeLogGroups"),
        ("POST", "/", "Action=AssumeRoleWithWebIdentity&Version=2011-06-15", ""),
        ("GET", "/_emulator/state", "", ""),
        ("PUT", "/_emulator/faults", "{}", ""),
    ):
        status, text = ask_as_nobody(port, method, path, body, target)
        assert status in (400, 403), (method, path, status, text)
        assert re.search("Authentication|only processes", text), text
        assert "private" not in text


@needs_root
def test_another_user_can_take_no_event_and_give_no_answer(running: tuple[Cloud, str, int]) -> None:
    """An environment's Runtime API answers its own process only: events go on to arrive there."""
    cloud, name, port = running
    for method, path in (
        ("GET", "/2018-06-01/runtime/invocation/next"),
        ("POST", "/2018-06-01/runtime/invocation/1/response"),
        ("POST", "/2018-06-01/runtime/init/error"),
    ):
        status, text = ask_as_nobody(port, method, path)
        assert status == 403
        assert "only processes of the emulator's user" in text
    assert cloud.invoke(name, 2).error is None


@needs_root
def test_who_has_the_key_may_sign(own_cloud: OwnCloud) -> None:
    """Another user who was told the key uses the emulator as its own user does; a wrong one is refused."""
    emulator = own_cloud().emulator
    assert emulator is not None
    key = emulator.access_key_id
    told = run_as_nobody(SIGN, emulator.endpoint, key, emulator.secret_access_key)
    assert told.stdout.strip() == "0", told.stderr
    assert "InvalidSignatureException" in run_as_nobody(SIGN, emulator.endpoint, key, "wrong").stderr


def test_each_emulator_has_a_key_of_its_own(own_cloud: OwnCloud) -> None:
    """Keys are made at random: whoever knows one emulator's does not know another's."""
    first, second = (own_cloud().emulator for _ in range(2))
    assert first is not None
    assert second is not None
    assert len({first.secret_access_key, second.secret_access_key, ""}) == 3


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://example.com"},
        {"Origin": "null"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
        {"Host": "rebound.example.com:{port}"},
        {"Host": "127.0.0.1.example.com"},
        {"Host": "localhost.example.com:{port}"},
    ],
)
def test_no_web_page_gets_through(running: tuple[Cloud, str, int], headers: dict[str, str]) -> None:
    """What a browser sends for a page is refused: by where it is from, or the name it was found under."""
    cloud, name, runtime_port = running
    assert cloud.emulator is not None
    port = port_of(cloud.emulator)
    for each, method, path in (
        (port, "POST", f"/2015-03-31/functions/{name}/invocations"),
        (port, "GET", "/2015-03-31/functions"),
        (port, "GET", "/_emulator/state"),
        (runtime_port, "GET", "/2018-06-01/runtime/invocation/next"),
    ):
        sent = {key: value.format(port=each) for key, value in headers.items()}
        assert ask(each, path, method, **sent) == 403, (method, path)


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "LOCALHOST:80", "[::1]:80", "192.0.2.7", "b.s3.localhost:1", "b.127.0.0.1"],
)
def test_names_of_this_machine_are_taken(shared_emulator: Emulator, host: str) -> None:
    """Addresses, localhost, and buckets before them."""
    assert ask(port_of(shared_emulator), "/_emulator/state", Host=host) == 200


def test_a_name_that_it_was_given_is_taken(own_cloud: OwnCloud) -> None:
    """An emulator that listens at a name answers to it."""
    name = socket.gethostname()
    try:
        address = socket.gethostbyname(name)
    except OSError:
        pytest.skip("this machine's name has no address")
    emulator = own_cloud(host=name).emulator
    assert emulator is not None
    connection = http.client.HTTPConnection(address, port_of(emulator), timeout=10)
    connection.request("GET", "/_emulator/state", headers={"Host": name})
    assert connection.getresponse().status == 200
    connection.close()


@pytest.mark.parametrize("find", [peers.find_owner, peers.search_table])
@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_the_kernel_says_whose_a_socket_is(find: Callable[..., peers.Owner | None], family: int) -> None:
    """Asked one by one, or looked up in the table of all: user and number of the socket at the other end."""
    host = "::1" if family == socket.AF_INET6 else "127.0.0.1"
    with socket.create_server((host, 0), family=family) as server:
        with socket.socket(family) as client:
            client.connect(server.getsockname())
            with server.accept()[0] as accepted:
                found = find(family, accepted.getpeername()[:2], accepted.getsockname()[:2])
                assert found == peers.Owner(os.geteuid(), os.fstat(client.fileno()).st_ino)
                assert peers.is_own(accepted)
                client.close()
                assert not peers.is_own(accepted)
        assert find(family, (host, 9), server.getsockname()[:2]) is None


def test_what_listens_is_no_other_end() -> None:
    """The kernel names a socket that listens where there is no connection: that is not whom we speak to."""
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        assert peers.find_owner(socket.AF_INET, one.getsockname(), other.getsockname()) is None


@needs_root
def test_a_socket_that_its_process_has_left_is_nobodys() -> None:
    """A process that sends and goes cannot pass for root, to whom the kernel gives such sockets."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert run_as_nobody(SEND, server.getsockname()[1]).returncode == 0
        with server.accept()[0] as accepted:
            assert accepted.recv(1) == b"x"
            assert not peers.is_own(accepted)


def test_files_of_environments_are_the_users_alone(running: tuple[Cloud, str, int]) -> None:
    """Nobody else can look into the directory of the environments' files."""
    directories = {
        Path(each).parents[1]
        for process in psutil.Process().children(recursive=True)
        for each in [process.environ().get("TMPDIR", "")]
        if "lambda-emulator-" in each
    }
    assert directories
    assert all(directory.stat().st_mode & 0o077 == 0 for directory in directories)


@needs_root
def test_a_container_is_known_by_its_network() -> None:
    """Its user is another, and may ask all the same; outside of its network he may not."""

    async def ask_both() -> list[bytes]:
        def tell(exchange: Exchange) -> None:
            exchange.respond(Response(200, (), b"%d" % exchange.request.own))

        server = HttpServer(tell, peers.is_own)
        await server.listen("127.0.0.1", 0)
        network = await ContainerNetwork.open(server, [])
        try:
            script = [sys.executable, "-c", ASK, str(server.port), "GET", "/", "", ""]
            inside = ["nsenter", f"--net={network.path}", *script]
            return [await asyncio.to_thread(subprocess.check_output, each) for each in (inside, script)]
        finally:
            network.close()
            server.close()

    assert asyncio.run(ask_both()) == [b"200 1\n", b"200 0\n"]
