"""ROOT's DistRDF, as we use it: a head node made of a constructor's arguments, lowered to Dask's graph.

What is booked on it is a node per operation; see `dask_root_lambda.rdf.operations`.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dask.config
import ROOT
from distributed import Client
from ROOT._distrdf import HeadNode
from ROOT._distrdf.Backends.Base import BaseBackend

from dask_root_lambda import destination
from dask_root_lambda.config import Settings
from dask_root_lambda.plan import archive
from dask_root_lambda.plan import graph as graphs
from dask_root_lambda.plan.graph import RunGraph
from dask_root_lambda.plan.space import RunSpace
from dask_root_lambda.plan.steps import Finish
from dask_root_lambda.protocol.errors import ConfigurationError, GraphError
from dask_root_lambda.protocol.intervals import Division
from dask_root_lambda.protocol.rootfile import FileIdentity
from dask_root_lambda.protocol.task import Skipped
from dask_root_lambda.rdf import defaults, inputs, opening, outlines, packing, probes, remote, skipping
from lambda_runtime import diagnostics
from lambda_runtime.remote import names, objects


def head_node(
    backend: BaseBackend,
    npartitions: int | None,
    args: Sequence[Any],
    skip_unreadable: bool | None = None,
    cache_days: int | None = None,
) -> Any:
    """Make DistRDF's head node of the arguments of an RDataFrame constructor.

    Raises
    ------
    InputError
        A file is missing, truncated or not a ROOT file, or holds no such tree.
    GraphError
        No constructor of DistRDF takes these arguments.
    ConfigurationError
        ``npartitions`` is not a positive whole number.
    """
    diagnostics.check_compiler()
    n_ranges = _checked_npartitions(npartitions)
    keeps_days = Settings.resolve(cache_days=cache_days).cache_days
    args = remote.located([_plain(item) for item in args])
    inputs.refuse_selections(args)
    skipped: list[Skipped] | None = None
    if skipping.wanted(skip_unreadable):
        args, skipped = skipping.readable(args)
    identities = inputs.check(args)
    samples = inputs.samples(args)
    urls = inputs.given(args)
    # Of those that may be left out, all were looked at.
    ahead = probes.ahead([url for url in urls if url not in identities]) if skipped is None else None
    try:
        head = _made(backend, n_ranges, args, urls, identities)
    except Exception as error:  # whatever ROOT raises for these arguments
        raise inputs.explain(args, error) from error
    inputs.refuse_masks(head.rdf_node)
    inputs.make_absolute(head)
    head.identities = identities
    head.ahead = ahead
    head.samples = samples
    head.skipped = skipped
    head.cache_days = keeps_days
    if skipped is not None:
        skipping.check(head)
    head.default_columns = defaults.columns(args)
    # A TTree or TDirectory among them has to live as long as the frame.
    head.arguments = args
    return head


def _made(
    backend: BaseBackend,
    n_ranges: int | None,
    args: Sequence[Any],
    urls: Sequence[str],
    identities: Mapping[str, FileIdentity],
) -> Any:
    """Make a head node: ROOT opens the first file for it, or what an earlier start has kept of that."""

    def make() -> Any:
        with diagnostics.record():
            return HeadNode.get_headnode(backend, n_ranges, *args)

    identity = identities.get(urls[0]) if _may_have_outline(args, urls) else None
    if identity is not None and (head := _outlined(backend, n_ranges, args, urls, identity)) is not None:
        return head
    if any(map(names.is_remote, urls)):
        objects.prepare()
    head = make()
    if identity is not None:
        outlines.keep(urls[0], identity, args[0], head.rdf_node)
    return head


def _may_have_outline(args: Sequence[Any], urls: Sequence[str]) -> bool:
    return bool(urls) and outlines.are_of_use(urls) and list(map(str, args[1])) == urls


def _outlined(
    backend: BaseBackend,
    n_ranges: int | None,
    args: Sequence[Any],
    urls: Sequence[str],
    identity: FileIdentity,
) -> Any:
    """Make a head node of what an earlier start has kept of the first file; None where that does not do."""
    with opening.unprepared():
        frame = outlines.frame(urls, identity, args[0], *args[2:])
        if frame is None:
            return None
        is_tree = outlines.source_of(frame) == "TTreeDS"
        kind = HeadNode.TreeHeadNode if is_tree else HeadNode.RNTupleHeadNode
        with diagnostics.record():
            return kind(backend, n_ranges, frame, *args)


def _plain(item: Any) -> Any:
    """Make what DistRDF takes of several files that come as a tuple or an iterator, and of paths."""
    if isinstance(item, tuple | Iterator):
        item = list(item)
    if isinstance(item, list):
        return [os.fspath(each) if isinstance(each, os.PathLike) else each for each in item]
    if isinstance(item, ROOT.RDF.Experimental.RDatasetSpec):
        # DistRDF moves the samples out of it.
        return ROOT.RDF.Experimental.RDatasetSpec(item)
    return os.fspath(item) if isinstance(item, os.PathLike) else item


def _checked_npartitions(npartitions: Any) -> int | None:
    if npartitions is None:
        return None
    try:
        n_ranges = 0 if isinstance(npartitions, bool) else operator.index(npartitions)
    except TypeError:
        n_ranges = 0
    if n_ranges < 1:
        raise ConfigurationError(f"npartitions is {npartitions!r}: it has to be a whole number from 1")
    return n_ranges


@dataclass(frozen=True)
class Lowered:
    """Booked actions as a Dask graph."""

    space: RunSpace
    """The run, and where its partial results lie."""
    graph: RunGraph
    finish: Finish
    """Its last step."""
    division: Division
    """Its ranges."""
    actions: tuple[Any, ...]
    """DistRDF's nodes, in the order of the graph's results."""
    whole: bool
    """Whether all entries are read."""
    keep_days: int = 0
    """Days for which the results are kept; 0 for not at all."""


def surroundings(head: Any, client: Client | None) -> tuple[Any, ...]:
    """Return what a lowering depends on besides what is booked: the user's code, and where it is made for.

    Raises
    ------
    InputError
        A file of the frame cannot be read any more, or was replaced.
    """
    if head.skipped is not None:
        skipping.leave_out(head)
    inputs.look(head)
    client = client or destination.current_client()
    # Looked up for every result of a computation: as they stand, they tell whether they changed.
    settings = [
        dask.config.get(f"dask-root-lambda.{name}") for name in ("fan-in", "merge-on", "results.keep-days")
    ]
    return packing.registered(head.backend), client and client.id, *settings


def lower(
    head: Any,
    actions: Sequence[Any],
    client: Client | None,
    failures: Mapping[str, int],
    annotations: Mapping[str, Any],
    wanted: int | None = None,
) -> Lowered:
    """Lower actions that are booked on a head node to a Dask graph.

    The number of ranges is what the user asked for, else what the client's cluster runs at once; see
    `dask_root_lambda.rdf.packing.pack`.

    Parameters
    ----------
    head
        DistRDF's head node.
    actions
        DistRDF's nodes.
    client
        The client of the frame; None is Dask's current one.
    failures
        How often each run of the frame has failed.
    annotations
        Dask's annotations of the graph.
    wanted
        How many of the first entries are needed; None for all.
    """
    settings = Settings.resolve()
    client = client or destination.current_client()
    packed = packing.pack(head, actions, head.npartitions, client, wanted=wanted)
    space, whole = packed.mapper.space, packed.finish.stop is None
    keep_days = settings.keep_results_days if packed.repeatable else 0
    known = archive.find(space, keep_days) if keep_days else None
    if known is not None:
        run = graphs.of_known(packed.mapper, known)
        return Lowered(space, run, packed.finish, packed.mapper.division, packed.actions, whole)
    run = graphs.build(
        packed.mapper,
        packed.finish,
        fan_in=settings.fan_in,
        merge_on_lambda=settings.merge_on == "lambda",
        failures=failures.get(packed.mapper.run, 0),
        annotations=annotations,
    )
    division = packed.mapper.division
    return Lowered(space, run, packed.finish, division, packed.actions, whole, keep_days)


def pack_apart(
    head: Any, actions: Sequence[Any], client: Client | None, wanted: int | None, failed: Division | None
) -> packing.Packed:
    """Pack actions without beginning their run, to look at one of its ranges.

    Parameters
    ----------
    head, actions, client, wanted
        See `lower`.
    failed
        How the run of the frame was divided that failed last; None for none.
    """
    client = client or destination.current_client()
    begin = packing.not_begun(head, head.npartitions, client, failed)
    return packing.pack(head, actions, head.npartitions, client, begin, wanted)


class Backend(BaseBackend):  # type: ignore[misc]  # ROOT has no types
    """What a head node asks of its backend; `BaseBackend` keeps the code and files that users register."""

    def make_dataframe(self, *args: Any, **kwargs: Any) -> Any:
        """Refuse: frames make a head node of their own; see `dask_root_lambda.rdf.frame`."""
        raise GraphError("this backend makes no frames")

    def optimize_npartitions(self) -> int:
        """Return the number of slots; DistRDF asks for it."""
        return destination.slots(destination.current_client())

    def distribute_unique_paths(self, paths: Any) -> None:
        """Let files travel with the graph; scripts call this on a frame's head node."""
        self.register_files(list(paths))

    def ProcessAndMerge(self, ranges: Any, mapper: Any, reducer: Any) -> Any:  # noqa: N802  (DistRDF's name)
        """Refuse: a graph is lowered as a whole."""
        raise GraphError("a graph of this backend runs as a whole, see dask_root_lambda.rdf.distrdf.lower")

    ProcessAndMergeLive = ProcessAndMerge
