"""The journal adds up what was spent, and never stands in the way of a run."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

from dask_root_lambda import state_home
from dask_root_lambda.invocation.journal import Journal, Spent, month_start, spent_since

JULY = datetime(2026, 7, 1, tzinfo=timezone.utc)
AUGUST = datetime(2026, 8, 1, tzinfo=timezone.utc)
ONE = Spent(1, 2.0, 3.5, 0.001)


class Clock:
    """A time that is set."""

    now_s = AUGUST.timestamp()

    def __call__(self):
        return self.now_s


def test_lines_are_added_up_from_a_moment_on(tmp_path):
    """Of two months, the second one's lines only; two journals of one file do not disturb each other."""
    clock, path = Clock(), tmp_path / "deep" / "journal.jsonl"
    clock.now_s = AUGUST.timestamp() - 60
    for _ in range(2):
        journal = Journal(path, clock)
        journal.add(ONE)
        journal.flush()
        clock.now_s += 120
    assert spent_since(path, AUGUST) == ONE
    assert spent_since(path, JULY) == ONE + ONE
    assert month_start(datetime.fromtimestamp(clock.now_s, timezone.utc)) == AUGUST


def test_a_line_a_minute_and_none_for_nothing(tmp_path):
    """A long run is on the disk while it goes on, in few lines; an idle one writes nothing."""
    clock, path = Clock(), tmp_path / "journal.jsonl"
    journal = Journal(path, clock)
    journal.flush()
    assert not path.exists()
    for _ in range(180):
        clock.now_s += 1
        journal.add(ONE)
    assert len(path.read_text().splitlines()) == 3
    assert spent_since(path, AUGUST).invocations == 180


def test_a_line_that_was_cut_off_does_not_hide_the_others(tmp_path):
    """As a full disk leaves it."""
    path = tmp_path / "journal.jsonl"
    journal = Journal(path, Clock())
    journal.add(ONE)
    journal.flush()
    path.write_text('{"time": "2026\n[]\n' + path.read_text())
    assert spent_since(path, AUGUST) == ONE
    assert spent_since(tmp_path / "none", AUGUST) == Spent()


def test_a_journal_that_cannot_be_written_is_a_warning(caplog):
    """The run goes on."""
    journal = Journal(Path("/dev/null/journal.jsonl"), Clock())
    journal.add(ONE)
    journal.flush()
    assert "cannot be written" in caplog.text


def test_deployments_of_accounts_regions_and_emulators_are_kept_apart(monkeypatch, tmp_path):
    """In XDG_STATE_HOME where it is an absolute path, else in the home directory."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert state_home.directory("1", "r", "n") == tmp_path / "dask-root-lambda" / "1" / "r" / "n"
    emulated = state_home.directory("1", "r", "n", "http://127.0.0.1:4566")
    assert emulated.relative_to(tmp_path).parts[1] == "1-at-http-127.0.0.1-4566"
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert state_home.directory("1", "r", "n").is_relative_to(tmp_path / "home/.local/state")
