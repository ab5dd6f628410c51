"""Where a cluster listens: whoever reaches a scheduler or an emulator could run code."""

from __future__ import annotations

import asyncio
import socket
from contextlib import closing
from ipaddress import ip_address
from urllib.request import urlopen

import dask
import psutil
import pytest
from bokeh.util.token import generate_jwt_token, generate_session_id
from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.websocket import websocket_connect

from dask_root_lambda import LambdaCluster

pytestmark = pytest.mark.timeout(120)


def listening() -> set[tuple[str, int]]:
    """Addresses at which this process and its children listen."""
    own = psutil.Process()
    return {
        (each.laddr.ip, each.laddr.port)
        for process in (own, *own.children(recursive=True))
        for each in process.net_connections()
        if each.status == psutil.CONN_LISTEN
    }


def outside_address() -> str:
    """An address of this machine that others see, without asking any of them."""
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return "127.0.0.2"
        return str(probe.getsockname()[0])


def is_open(address: str, port: int) -> bool:
    with closing(socket.socket()) as probe:
        probe.settimeout(5)
        return probe.connect_ex((address, port)) == 0


@pytest.mark.parametrize("execution", ["local", "emulated"])
@pytest.mark.parametrize("dashboard", ["as it is", None, "127.0.0.1:0"])
def test_nothing_listens_but_on_loopback(execution: str, dashboard: str | None) -> None:
    """Scheduler, worker, dashboard and emulator: nothing can be reached from another machine."""
    before, given = listening(), {} if dashboard == "as it is" else {"dashboard_address": dashboard}
    with LambdaCluster(execution=execution, **given) as cluster, cluster.get_client() as client:
        with dask.annotate(executor="lambda"):
            assert client.compute(dask.delayed(abs)(-1)).result() == 1
        found = listening() - before
        # The worker's pages; the scheduler's; the emulator's endpoint, and an environment's Runtime API.
        assert len(found) == 1 + (dashboard is not None) + 2 * (execution == "emulated")
        for address, port in found:
            assert ip_address(address).is_loopback, (address, port)
            assert not is_open(outside_address(), port)
    assert not listening() - before


def test_no_dashboard_is_none() -> None:
    """dashboard_address=None: no link, and of the scheduler no socket. The worker's pages are its health."""
    before = listening()
    with LambdaCluster(execution="local", dashboard_address=None) as cluster:
        assert cluster.dashboard_link == ""
        assert "8787" not in cluster._repr_html_()
        ((address, port),) = listening() - before
        with urlopen(f"http://{address}:{port}/health", timeout=10) as answer:
            assert answer.read() == b"ok"


def test_a_dashboard_is_where_it_is_told_to_be() -> None:
    """An explicit address is taken, one that others reach too."""
    address = outside_address()
    with LambdaCluster(execution="local", dashboard_address=f"{address}:0") as cluster:
        assert cluster.dashboard_link.startswith(f"http://{address}:")
        with urlopen(cluster.dashboard_link, timeout=20) as answer:
            assert answer.status == 200


def opens_web_socket(link: str, origin: str) -> bool:
    """Whether a page from some origin may follow the dashboard's plots."""

    async def ask() -> bool:
        request = HTTPRequest(f"{link.replace('http', 'ws')}/ws", headers={"Origin": origin})
        try:
            token = generate_jwt_token(generate_session_id())
            connection = await websocket_connect(request, subprotocols=["bokeh", token])
        except HTTPClientError as error:
            return bool(error.code != 403)
        connection.close()
        while await connection.read_message() is not None:
            pass
        return True

    return asyncio.run(ask())


def test_origins_of_the_dashboard_can_be_named() -> None:
    """As docs/trust.md says: pages of any origin can look at the dashboard, unless Dask is told which may."""
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    setting = "distributed.scheduler.dashboard.bokeh-application.allow_websocket_origin"
    for allowed, others_may in ((["*"], True), ([f"localhost:{port}"], False)):
        with (
            dask.config.set({setting: allowed}),
            LambdaCluster(execution="local", dashboard_address=f"127.0.0.1:{port}") as cluster,
        ):
            assert opens_web_socket(cluster.dashboard_link, f"http://localhost:{port}")
            assert opens_web_socket(cluster.dashboard_link, "https://example.com") is others_may


@pytest.mark.parametrize("given", [None, "127.0.0.1:0"])
def test_a_schedulers_messages_stay_in_the_process(given: str | None) -> None:
    """Scheduler, worker and client speak within the process: there is no port that takes pickles."""
    with LambdaCluster(execution="local", dashboard_address=given) as cluster, cluster.get_client() as client:
        addresses = [cluster.scheduler_address, *client.scheduler_info()["workers"]]
        assert all(address.startswith("inproc://") for address in addresses)
