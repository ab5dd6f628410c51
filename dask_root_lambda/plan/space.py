"""The part of the stores that belongs to a run, and the key that seals what it writes there."""

from __future__ import annotations

from dataclasses import dataclass, field

from dask_root_lambda.protocol.intervals import Interval


@dataclass(frozen=True)
class RunSpace:
    """The part of stores that belongs to a run, as one process computes it."""

    run: str
    """Identity of the user, the graph, and the content of its files."""
    key: bytes = field(repr=False)
    """Seals what is written there; see `dask_root_lambda.protocol.seal`. It is never put into a store."""
    session: str
    """Names what writes there: nobody else adds to it, takes of it or deletes it, as long as it lives."""
    adopted: tuple[str, ...] = ()
    """Sessions that have ended, whose partial results this one takes, and deletes when it is done."""
    not_reused: str = ""
    """Why what is left here, should the run fail, cannot be taken by another process; empty if it can."""
    new_in: str = field(default="", compare=False)
    """The process that has begun the session, where nothing was left of it or for it before: that process
    need not ask the stores what there is. See `dask_root_lambda.protocol.task.session`."""

    @property
    def prefix(self) -> str:
        """What the keys begin with that this session writes."""
        return f"{self.prefix_of_all}{self.session}/"

    @property
    def prefix_of_all(self) -> str:
        """What the keys of all sessions of the run begin with."""
        return f"partials/{self.run}/"

    @property
    def prefixes(self) -> tuple[str, ...]:
        """What the keys begin with that this session may take and delete."""
        return tuple(f"{self.prefix_of_all}{session}/" for session in (self.session, *self.adopted))

    def place(self, interval: Interval) -> str:
        """Return the key under which this session writes the partial result of an interval."""
        return f"{self.prefix}{interval}"

    def places(self, interval: Interval) -> tuple[str, ...]:
        """Return the keys under which a partial result of an interval may be taken."""
        return tuple(f"{prefix}{interval}" for prefix in self.prefixes)
