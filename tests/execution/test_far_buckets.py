"""Who reads a bucket of another region is told what that costs."""

from __future__ import annotations

import logging

import pytest

from dask_root_lambda.execution.far_buckets import FarBuckets
from dask_root_lambda.execution.ledger import Ledger
from dask_root_lambda.invocation.invokers import Invocation
from dask_root_lambda.protocol.task import Reply, Usage
from dask_root_lambda.protocol.traffic import Traffic
from lambda_runtime.remote.names import Place, S3Name

from ..invokers import ScriptedInvoker, packed_mapper

GB = 2**30
CEPH = Place("https://s3.cern.ch")
FILES = {
    S3Name("near", "a.root").internal(): GB,
    S3Name("far", "a.root").internal(): GB,
    S3Name("far", "b.root").internal(): 2 * GB,
    S3Name("far", "c.root", CEPH).internal(): GB,
    "https://opendata.cern.ch/a.root": GB,
    "root://eos.cern.ch//a.root": GB,
    "/data/a.root": GB,
}


class Function(ScriptedInvoker):
    region = "us-east-1"


@pytest.fixture
def asked():
    return []


@pytest.fixture
def ledger():
    return Ledger()


@pytest.fixture
def far_buckets(ledger, asked):
    regions = {"near": "us-east-1", "far": "eu-west-1"}

    def region_of(url):
        asked.append(url)
        return regions[url.split("/")[4]]

    return FarBuckets(ledger, None, region_of)


def mapper(run="run"):
    return packed_mapper(run, n_ranges=len(FILES), files=tuple(FILES), sizes=tuple(FILES.values()))


def test_a_bucket_elsewhere_is_told_once_in_each_run(ledger, far_buckets, asked, caplog):
    """With regions, the price and the most that it can be; other ranges of the run say nothing."""
    with caplog.at_level(logging.WARNING):
        for run in ("run", "another"):
            account = ledger.begin(run, 3, Function())
            for _ in range(3):
                far_buckets.look(mapper(run), account, Function())
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2
    assert said[0].startswith(
        "s3://far is in eu-west-1, the function in us-east-1: transfer costs 0.02 USD per GB, "
        "0.06 USD if the run reads all 3.000 GB"
    )
    assert ledger.report().notes == (f"{said[0]}.",)
    assert len(asked) == 4


def test_what_came_from_there_is_priced(ledger, far_buckets):
    """By the bytes that functions say they read."""
    account = ledger.begin("run", 3, Function())
    far_buckets.look(mapper(), account, Function())
    read = tuple(Traffic(f"s3://{name}", bytes_read=GB) for name in ("near", "far"))
    ledger.add(
        account, Invocation(Reply(usage=Usage(traffic=read)), None, Function.bill, 0, 0, 0), Function()
    )
    assert ledger.total().transfer_usd == pytest.approx(0.02)


def test_this_process_is_in_no_region(ledger, far_buckets, asked):
    """Under local execution nothing is asked."""
    here = ScriptedInvoker("local")
    far_buckets.look(mapper(), ledger.begin("run", 3, here), here)
    assert asked == []
