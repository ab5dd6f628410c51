"""What is billed costs what the price list says."""

from __future__ import annotations

import pytest

from dask_root_lambda.cost.billing import Billing
from dask_root_lambda.cost.prices import is_priced, prices_of, transfer_usd_per_gb
from dask_root_lambda.protocol.errors import ConfigurationError
from dask_root_lambda.protocol.traffic import Traffic


def test_cost_of_a_warm_invocation():
    """A second of 1,769 MB on x86 in us-east-1: 1.7275 GB-s at 0.0000166667, and a request."""
    table = prices_of("us-east-1")
    assert table.usd(Billing(billed_s=1.0, memory_mb=1769)) == pytest.approx(
        1.7275390625 * 0.0000166667 + 2e-7
    )


def test_arm_is_cheaper():
    """The architecture has its own price."""
    bill = Billing(billed_s=1.0, memory_mb=1024)
    assert prices_of("us-east-1", "arm64").usd(bill) == pytest.approx(0.0000133334 + 2e-7)


def test_a_restore_costs_by_memory():
    """A SnapStart restore is charged for the function's memory: 0.00014 USD per GB."""
    table = prices_of("us-east-1")
    bill = Billing(memory_mb=2048, restore_s=0.3)
    assert table.usd(bill) == pytest.approx(2e-7 + 2 * 0.0001397998)


def test_storage_beyond_512_mb_costs():
    """/tmp is free up to 512 MB."""
    table = prices_of("us-east-1")
    bill = Billing(billed_s=10.0, memory_mb=1024)
    assert table.usd(bill, storage_mb=512) == table.usd(bill)
    assert table.usd(bill, storage_mb=1536) - table.usd(bill) == pytest.approx(10 * 0.0000000309)


def test_prices_name_their_region_and_date():
    """A region without a price list is reckoned at the default's, and the table says which that is."""
    table = prices_of("eu-nowhere-1")
    assert table.region == "us-east-1"
    assert table.date


def test_users_can_add_a_region():
    """A region in the configuration is used, with its own prices."""
    row = {
        "x86_64": 1.0,
        "arm64": 1.0,
        "request": 0.5,
        "storage": 0.0,
        "snapstart-restore": 0.0,
        "snapstart-cache": 0.0,
    }
    table = prices_of("eu-mine-1", own={"eu-mine-1": row})
    assert (table.region, table.usd(Billing(billed_s=1.0, memory_mb=1024))) == ("eu-mine-1", 1.5)
    # The date of the packaged list is not that of these prices.
    assert table.date == ""
    assert prices_of("eu-mine-1", own={"eu-mine-1": {**row, "date": "2026-01-31"}}).date == "2026-01-31"


def test_an_incomplete_region_says_what_is_missing():
    """A price list of the user's that lacks a price is an error that names it."""
    with pytest.raises(ConfigurationError, match="eu-mine-1 lack 'x86_64'"):
        prices_of("eu-mine-1", own={"eu-mine-1": {"request": 0.5}})


def test_requests_to_s3_cost_by_their_kind():
    """GET and HEAD are cheap, LIST and PUT cost twelve times as much; web servers cost nothing."""
    read = Traffic("s3://a", gets=600, heads=400, lists=50, puts=150), Traffic("https://a.cern.ch", gets=9)
    assert prices_of("us-east-1").requests_usd(read) == pytest.approx(0.0004 + 0.001)


@pytest.mark.parametrize(
    ("source", "target", "usd"),
    [
        ("us-east-1", "us-east-1", 0.0),
        ("us-east-1", "us-east-2", 0.01),
        ("us-east-2", "us-east-1", 0.01),
        ("us-east-1", "eu-west-1", 0.02),
        ("us-west-2", "us-east-2", 0.02),
        ("eu-nowhere-1", "eu-west-1", 0.02),
        ("eu-mine-1", "eu-west-1", 0.09),
        ("eu-mine-1", "us-east-1", 0.08),
    ],
)
def test_transfer_is_priced_by_where_it_comes_from(source, target, usd):
    """Within a region it is free; a user can name other prices."""
    own = {"eu-mine-1": {"transfer": 0.09, "transfer-to": {"us-east-1": 0.08}}}
    assert transfer_usd_per_gb(source, target, own) == usd


def test_only_aws_takes_money():
    """Other endpoints have prices of their own, which nobody knows; one of this machine is an emulated S3."""
    endpoints = {"": True, "http://127.0.0.1:5000": True, "https://s3.cern.ch": False}
    assert {each: is_priced(Traffic("s3://a", each)) for each in endpoints} == endpoints
    assert not is_priced(Traffic("root://eos.cern.ch"))
