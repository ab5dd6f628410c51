"""Dashboards of two clusters in one process, each drawn by a thread of its own."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from bokeh.client import pull_session
from bokeh.core.properties import validate, without_property_validation
from bokeh.core.property import bases

from dask_root_lambda import LambdaCluster

from . import dashboards

DEADLINE_S = 60.0


@pytest.fixture
def updating():
    """Another thread, which is in the middle of drawing as Dask's pages are drawn; ``go_on`` lets it end."""
    begun, go_on = threading.Event(), threading.Event()

    @without_property_validation
    def update():
        begun.set()
        assert go_on.wait(DEADLINE_S)
        return bases.validation_on()

    with ThreadPoolExecutor(1) as pool:
        update.future = pool.submit(update)
        assert begun.wait(DEADLINE_S)
        update.go_on = go_on.set
        yield update
        go_on.set()


@pytest.fixture
def cluster():
    with LambdaCluster(execution="local", dashboard_address="127.0.0.1:0", progress=False) as cluster:
        yield cluster


def test_a_page_is_sent_while_another_is_drawn(cluster, updating):
    """Its colors are those of a column, and no constant that a browser cannot draw."""
    with pull_session(url=f"{dashboards.base(cluster)}/lambda") as session:
        (durations,) = session.document.select({"name": "durations"})
        assert durations.renderers[0].glyph.fill_color["field"] == "kind"


def test_dasks_own_pages_are_made_while_another_is_drawn(cluster, updating):
    assert 'href="lambda"' in dashboards.get(cluster, "/status")


def test_the_switch_is_on_when_both_are_drawn(cluster, updating):
    """They overlap: the second begins before the first has ended, and ends after it."""
    began, end = threading.Event(), threading.Event()

    @without_property_validation
    def update():
        began.set()
        assert end.wait(DEADLINE_S)

    with ThreadPoolExecutor(1) as pool:
        second = pool.submit(update)
        assert began.wait(DEADLINE_S)
        updating.go_on()
        assert updating.future.result(DEADLINE_S) is False, "Dask draws without validation"
        end.set()
        second.result(DEADLINE_S)
    assert bases.validation_on()


def test_what_a_user_turns_off_is_off(cluster):
    """It is off for all threads, as ever."""
    with validate(False):
        assert not bases.validation_on()
        with ThreadPoolExecutor(1) as pool:
            assert not pool.submit(bases.validation_on).result(DEADLINE_S)
    assert bases.validation_on()
