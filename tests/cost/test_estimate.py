"""What a run takes and costs, reckoned from a few of its ranges, against simulated runs."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dask_root_lambda.cost.billing import Billing
from dask_root_lambda.cost.estimate import Rest, Sample, extrapolate, pace
from dask_root_lambda.cost.prices import prices_of

PRICES = prices_of("us-east-1")
MEMORY_MB = 1769
WAVE = 4


class Account:
    """A simulated account: warm environments serve first, others are started."""

    def __init__(self, seed, *, fixed_s, per_size_s, first_s, start_s, noise):
        self.random = random.Random(seed)
        self.fixed_s, self.per_size_s = fixed_s, per_size_s
        self.first_s, self.start_s, self.noise = first_s, start_s, noise
        self.environments = 0

    def run(self, sizes, slots):
        """Run ranges; return what each took, and the wall time."""
        free = [0.0] * min(slots, max(self.environments, 1))
        known = self.environments
        self.environments = max(known, min(slots, len(sizes)))
        free = [0.0] * self.environments
        warm = [place < known for place in range(self.environments)]
        samples = []
        for size in sizes:
            place = min(range(self.environments), key=free.__getitem__)
            duration_s = (self.fixed_s + self.per_size_s * size) * self.random.uniform(
                1 - self.noise, 1 + self.noise
            )
            duration_s += 0.0 if warm[place] else self.first_s
            start_s = None if warm[place] else self.start_s
            billing = Billing(duration_s, duration_s + (start_s or 0.0), MEMORY_MB, 600.0, init_s=start_s)
            samples.append(Sample(size, duration_s, billing, str(place)))
            free[place] += billing.billed_s
            warm[place] = True
        return samples, max(free)


@settings(deadline=None)
@given(
    seed=st.integers(0, 1000),
    fixed_s=st.floats(0, 1),
    per_size_s=st.floats(0.5, 2),
    first_s=st.floats(0, 8),
    start_s=st.floats(0, 3),
    slots=st.sampled_from([1, 2, 4, 32, 100]),
    waves=st.integers(1, 10),
)
def test_within_a_fifth(seed, fixed_s, per_size_s, first_s, start_s, slots, waves):
    """Cost and wall time of simulated runs whose ranges vary by a tenth, with cold starts."""
    account = Account(
        seed, fixed_s=fixed_s, per_size_s=per_size_s, first_s=first_s, start_s=start_s, noise=0.1
    )
    first, _ = account.run([1.0] * WAVE, slots)
    then, _ = account.run([1.0, 3.0] * (WAVE // 2), slots)
    samples = [*(Sample(**{**vars(each), "first": True}) for each in first), *then]
    sizes = [5.0] * (slots * waves)
    estimate = extrapolate(samples, Rest(sum(sizes), len(sizes), slots), PRICES, why="")
    rest, wall_s = account.run(sizes, slots)
    usd = sum(PRICES.usd(each.billing) for each in (*samples, *rest))
    assert estimate.usd == pytest.approx(usd, rel=0.2)
    assert estimate.wall_s == pytest.approx(wall_s, rel=0.2)


def test_the_parts_of_a_pace():
    """What is fixed, what grows, what is compiled and what is started are told apart."""
    cold = Billing(12.0, 14.0, MEMORY_MB, 600.0, init_s=2.0)
    warm = [(1.0, 3.0), (1.0, 3.0), (3.0, 7.0), (3.0, 7.0)]
    samples = [Sample(1.0, 12.0, cold, "a", first=True)]
    samples += [Sample(size, took_s, Billing(took_s, took_s, MEMORY_MB), "a") for size, took_s in warm]
    known = pace(samples)
    assert (known.fixed_s, known.per_size_s) == (pytest.approx(1.0), pytest.approx(2.0))
    assert (known.first_s, known.start_s) == (pytest.approx(9.0), pytest.approx(2.0))


def test_few_samples_leave_doubt():
    """Two ranges tell little, and the interval says so."""
    samples = [Sample(1.0, 1.0, Billing(1.0, 1.0, MEMORY_MB, 900.0), "a")] * 2
    estimate = extrapolate(samples, Rest(8.0, 8, 2), PRICES, why="")
    assert estimate.wall_s_range == (pytest.approx(estimate.wall_s / 2), pytest.approx(estimate.wall_s * 1.5))


def test_reading_from_s3_grows_with_the_data():
    """What requests and transfer cost per entry of the samples, the rest costs as well."""
    samples = [Sample(1.0, 1.0, Billing(1.0, 1.0, MEMORY_MB), "a", data_usd=0.01)] * 2
    estimate = extrapolate(samples, Rest(8.0, 8, 2), PRICES, why="")
    without = extrapolate([replace(each, data_usd=0.0) for each in samples], Rest(8.0, 8, 2), PRICES, why="")
    assert estimate.data_usd == pytest.approx(0.1)
    assert estimate.usd - without.usd == pytest.approx(0.1)
    assert estimate.spent_usd - without.spent_usd == pytest.approx(0.02)
    assert "0.100000 for reading from S3" in str(estimate)
    assert "S3" not in str(without)


def test_nothing_left():
    """A dataset that was sampled as a whole costs what it has cost."""
    samples = [Sample(1.0, 1.0, Billing(1.0, 1.0, MEMORY_MB, 900.0), "a")]
    estimate = extrapolate(samples, Rest(0.0, 0, 2), PRICES, why="")
    assert estimate.usd == estimate.spent_usd == PRICES.usd(samples[0].billing)
    assert estimate.wall_s == 0


def test_memory():
    """At least a whole vCPU; more where the samples came near to it."""
    for peak_mb, recommended in ((600.0, 1769), (1700.0, 2176)):
        samples = [Sample(1.0, 1.0, Billing(1.0, 1.0, MEMORY_MB, peak_mb), "a")]
        assert extrapolate(samples, Rest(1.0, 1, 1), PRICES, why="").memory_mb == recommended


def test_no_entries():
    """Ranges without entries take what is fixed."""
    samples = [Sample(0.0, 0.5, Billing(0.5, 0.5, MEMORY_MB, 300.0), "a")] * 3
    assert extrapolate(samples, Rest(0.0, 4, 1), PRICES, why="").wall_s == pytest.approx(2.0)
