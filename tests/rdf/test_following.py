"""What is seen of a graph while it is computed, by computations that are scripted."""

from __future__ import annotations

from fractions import Fraction
from queue import SimpleQueue

from dask_root_lambda.plan.pace import Pace
from dask_root_lambda.plan.previews import Previewed
from dask_root_lambda.plan.steps import Finish
from dask_root_lambda.protocol import wire
from dask_root_lambda.protocol.errors import StoreError
from dask_root_lambda.protocol.intervals import Interval
from dask_root_lambda.protocol.task import PartialResult
from dask_root_lambda.rdf import following


class Scripted:
    """A computation all of whose ranges arrive at once, in the order that is given."""

    def __init__(self, order, part_bytes=1, error=None):
        self.arrived = SimpleQueue()
        for index in order:
            self.arrived.put(index)
        self.part_bytes, self.error, self.left, self.asked = part_bytes, error, [], 0

    def preview(self, parts):
        """Answer; when all were seen, the run is over."""
        self.asked += 1
        if self.error is not None:
            raise self.error
        for late in range(100, 100 + 3 * (self.asked == 1)):
            self.arrived.put(late)
        if self.asked == 2:
            self.arrived.put(None)
        blobs = (wire.dumps(_result(part)) for part in parts)
        return [Previewed(blob, self.part_bytes) for blob in blobs]

    def leave(self, part):
        """Take note."""
        self.left.append(part)


def _result(index):
    interval = Interval(Fraction(index), Fraction(index + 1))
    return PartialResult([], (interval,), processed=10, entries_by_file={index: 10})


def updates(computation):
    finish = Finish(None, n_files=200, entries=None)
    return list(following._updates(computation, Pace(200), finish))


def test_what_arrives_together_is_seen_together():
    """All ranges that are done are in the first update, and those after it in the next."""
    seen = updates(Scripted([3, 1, 2]))
    assert [update.entries for update in seen] == [30, 60]
    assert [update.share for update in seen] == [30 / 2000, 60 / 2000]


def test_large_partial_results_are_left_out():
    """Of those that would not fit into memory until the next update, the first stay."""
    computation = Scripted([0], part_bytes=following._HELD_BYTES // 2)
    assert [update.entries for update in updates(computation)] == [10, 30]
    assert computation.left == [102]


def test_a_failing_update_ends_the_updates():
    """A store or a worker that fails costs what is seen, and not the run."""
    assert updates(Scripted([0, 1], error=StoreError("gone"))) == []


def test_nothing_counts_twice():
    """Partial results that overlap are an error, of the updates only."""
    assert updates(Scripted([1, 1])) == []
