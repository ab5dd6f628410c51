"""What an interval is called in errors and reports."""

from __future__ import annotations

from fractions import Fraction

import pytest

from dask_root_lambda.plan import places
from dask_root_lambda.protocol.intervals import Interval

FILES = ("a.root", "b.root", "c.root")


@pytest.mark.parametrize(
    ("files", "start", "stop", "text"),
    [
        (FILES, Fraction(1), Fraction(2), "b.root"),
        (FILES, Fraction(1, 2), Fraction(2, 3), "a.root, entries from 50 % to 66.67 %"),
        (FILES, Fraction(0), Fraction(3), "a.root to c.root (3 files)"),
        (FILES, Fraction(1, 2), Fraction(5, 4), "a.root from 50 % to b.root up to 25 % (2 files)"),
        ((), Fraction(1000), Fraction(2000), "entries 1,000 to 2,000"),
    ],
)
def test_it_names_files_and_entries(files, start, stop, text):
    """Shares of a file's entries, which nobody has counted; entries where there are no files."""
    assert places.described(files, Interval(start, stop)) == text
