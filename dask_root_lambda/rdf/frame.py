"""RDataFrame whose results are Dask collections."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import ROOT
from dask.base import DaskMethodsMixin
from dask.task_spec import DataNode
from dask.threaded import get as threaded_get
from dask.typing import Key
from distributed import Client, Future

from dask_root_lambda.plan.graph import PREFIX
from dask_root_lambda.plan.steps import Step
from dask_root_lambda.protocol import wire
from dask_root_lambda.protocol.errors import GraphError
from dask_root_lambda.protocol.task import Skipped
from dask_root_lambda.rdf import debugging, distrdf, operations, reprs, snapshots, unsupported, values
from dask_root_lambda.rdf.bookings import Bookings, Hold, Lowering
from dask_root_lambda.rdf.taken import Taken, TakeProxy
from lambda_runtime.locking import making
from lambda_runtime.snapshots import Written


class Node:
    """A point of an RDataFrame graph, to book operations on.

    Each operation of DistRDF is a method: transformations (``Filter``, ``Define``, ...) return another
    `Node`, actions (``Histo1D``, ``Count``, ...) a `Result`. ``AsNumpy`` and ``Snapshot`` run at once
    unless asked to be lazy, as in ROOT. Names and types of columns are those of the first file.
    """

    def __init__(self, bookings: Bookings, node: Any) -> None:
        self._bookings = bookings
        self._node = node

    def __del__(self) -> None:
        # DistRDF leaves out by this flag what the user does not hold any more. A frame that could not be made
        # has no node.
        node = vars(self).get("_node")
        if node is not None:
            node.has_user_references = False

    def __getattr__(self, name: str) -> Any:
        if name == "Take":
            return TakeProxy(lambda taken: Result(self._bookings, operations.book_take(self._node, taken)))
        if name in operations.OPERATIONS:
            return functools.partial(self._book, name)
        if name in operations.LOOK_UPS:
            return getattr(self._node.rdf_node, name)
        raise AttributeError(unsupported.explain(name, operations.OPERATIONS))

    @property
    def node(self) -> Any:
        """DistRDF's node."""
        return self._node

    @property
    def bookings(self) -> Bookings:
        """What is booked on the frame."""
        return self._bookings

    def __repr__(self) -> str:
        return reprs.of_frame(self._node)

    def _repr_html_(self) -> str:
        return reprs.of_frame_as_html(self._node)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *operations.OPERATIONS, *operations.LOOK_UPS})

    def _book(self, name: str, *args: Any, **kwargs: Any) -> Any:
        node = operations.book(self._node, name, args, kwargs)
        if operations.is_transformation(node):
            return Node(self._bookings, node)
        result = Result(self._bookings, node)
        if not operations.is_instant(node):
            return result
        try:
            return result.GetValue()
        except BaseException:
            # The user never holds it, though the traceback of an error may.
            self._bookings.drop(result)
            raise


class RDataFrame(Node):
    """ROOT's RDataFrame over a dataset that is divided into ranges and run by Dask.

    Parameters
    ----------
    *args
        Those of ``ROOT.RDataFrame`` that ROOT's distributed RDataFrame takes: the name of a tree or
        RNTuple with a file name, a pattern, a list of file names or an open TDirectory; a TTree or TChain; an
        ``RDatasetSpec``; or a number of entries.
    npartitions
        Ranges to divide the dataset into. A range holds whole clusters: there are fewer ranges where the
        files have fewer clusters, as far as that is known before they run. By default, as many as run at
        once.
    skip_unreadable
        Whether files that cannot be read are left out. By default one of them is an error. What was left out
        is in ``skipped`` of a result, in the report of the cluster, and logged as a warning.
    cache_days
        Days for which functions keep what they fetch over ``root://`` and ``https://`` in the deployment's
        bucket, and read it from there; 0 for not at all. By default, as ``files.cache-days`` says.

    Raises
    ------
    InputError
        A file is missing, truncated or not a ROOT file, or holds no such tree.
    GraphError
        No constructor takes these arguments.
    ConfigurationError
        ``npartitions`` is not a positive whole number, or ``cache_days`` none from 0 to 365.

    Examples
    --------
    >>> df = RDataFrame("Events", files, npartitions=32)
    >>> h = df.Filter("nMuon == 2").Histo1D(("pt", "", 100, 0, 100), "Muon_pt")
    >>> (h,) = dask.compute(h)
    """

    def __init__(
        self,
        *args: Any,
        npartitions: int | None = None,
        skip_unreadable: bool | None = None,
        cache_days: int | None = None,
    ) -> None:
        self._begin(None, args, npartitions, skip_unreadable, cache_days)

    @classmethod
    def on(
        cls,
        client: Client,
        args: Sequence[Any],
        npartitions: int | None,
        skip_unreadable: bool | None = None,
        cache_days: int | None = None,
    ) -> RDataFrame:
        """Make an RDataFrame whose results, when touched, are computed by a client's cluster.

        Parameters
        ----------
        client
            The client.
        args, npartitions, skip_unreadable, cache_days
            As for the constructor.
        """
        frame = cls.__new__(cls)
        frame._begin(client, args, npartitions, skip_unreadable, cache_days)
        return frame

    def _begin(
        self,
        client: Client | None,
        args: Sequence[Any],
        npartitions: int | None,
        skip_unreadable: bool | None,
        cache_days: int | None,
    ) -> None:
        self._arguments = tuple(args), npartitions, skip_unreadable, cache_days
        head = distrdf.head_node(distrdf.Backend(), npartitions, args, skip_unreadable, cache_days)
        Node.__init__(self, Bookings(head, client), head)

    @property
    def _headnode(self) -> Any:
        """DistRDF's head node, where ROOT and scripts for its own backends look for it."""
        return self._node

    @classmethod
    def from_spec(
        cls,
        path: str,
        npartitions: int | None = None,
        skip_unreadable: bool | None = None,
        cache_days: int | None = None,
    ) -> RDataFrame:
        """Make an RDataFrame of a dataset specification in JSON.

        Parameters
        ----------
        path
            The file, as ``ROOT.RDF.Experimental.FromSpec`` takes it.
        npartitions, skip_unreadable, cache_days
            As for the constructor.
        """
        spec = ROOT.Internal.RDF.RetrieveSpecFromJson(path)
        return cls(spec, npartitions=npartitions, skip_unreadable=skip_unreadable, cache_days=cache_days)

    @property
    def files(self) -> tuple[str, ...]:
        """The names of its files, in order, such as those that a Snapshot wrote; empty without files."""
        return tuple(getattr(self._node, "names", ()))

    def __reduce__(self) -> Any:
        """Travel as the constructor's arguments, such as the files that a Snapshot wrote."""
        args, npartitions, skip, days = self._arguments
        again = functools.partial(RDataFrame, npartitions=npartitions, skip_unreadable=skip, cache_days=days)
        return again, args


_UHI = ("_to_uhi_", "axes", "counts", "kind", "values", "variances")
"""What libraries for histograms ask of one: https://uhi.readthedocs.io"""


class _Collection(DaskMethodsMixin):
    """A result as a Dask collection, which touches like the value it stands for.

    Its key is that of all results of its run. The step that makes the value knows which of them it is.
    """

    __dask_scheduler__ = staticmethod(threaded_get)
    __dask_optimize__ = None

    @property
    def dask(self) -> Any:
        """The graph."""
        return self.__dask_graph__()

    def _where(self) -> tuple[Key, int]:
        """Return the key, and the place among the results under it."""
        raise NotImplementedError

    def _step(self) -> Value:
        """Return the step that makes the value of what is under the key."""
        return Value(self._where()[1], self.varied, self.taken)

    @property
    def varied(self) -> bool:
        """Whether the value is a map of variations."""
        return False

    @property
    def taken(self) -> Taken | None:
        """Which collection the value is, where it is one."""
        return None

    def __dask_keys__(self) -> list[Key]:
        return [self._where()[0]]

    def __dask_postcompute__(self) -> tuple[Callable[..., Any], tuple[()]]:
        return self._step(), ()

    def __dask_postpersist__(self) -> tuple[Callable[..., Any], tuple[Key, Value]]:
        return _persisted, (self._where()[0], self._step())

    def __dask_tokenize__(self) -> Any:
        return self._where()

    def GetValue(self) -> Any:  # noqa: N802  (ROOT's name)
        """Return the value, computing it if it has not been."""
        raise NotImplementedError

    @property
    def computed(self) -> bool:
        """Whether the value is here."""
        raise NotImplementedError

    def IsReady(self) -> bool:  # noqa: N802  (ROOT's name)
        """Tell whether the value is here."""
        return self.computed

    def GetPtr(self) -> Any:  # noqa: N802  (ROOT's name)
        """Return the value; Python has no pointers."""
        return self.GetValue()

    GetSharedPtr = GetPtr

    def OnPartialResult(self, *_: Any) -> None:  # noqa: N802  (ROOT's name)
        """Refuse: results of ranges are merged when they are done."""
        raise GraphError(
            "OnPartialResult is not possible on Lambda: ranges have no results before they end. Iterate over "
            "dask_root_lambda.partial_results(result), or use ROOT.RDF.Distributed.LiveVisualize"
        )

    OnPartialResultSlot = OnPartialResult

    def _to_boost_histogram_(self) -> Any:
        """Return the histogram as boost-histogram's; its constructor asks for it."""
        from boost_histogram import Histogram

        return Histogram(self.GetValue()._to_uhi_())

    def __iter__(self) -> Iterator[Any]:
        return iter(self.GetValue())

    def __deepcopy__(self, _: Any) -> _Collection:
        return self

    def __copy__(self) -> _Collection:
        # A copy that goes would release what is booked.
        return self

    def __reduce__(self) -> Any:
        """Travel as the value."""
        if not self.computed:
            raise GraphError(f"{self!r} has no value yet that could be pickled: call GetValue() first")
        return _itself, (self.GetValue(),)

    def __getattr__(self, name: str) -> Any:
        # ROOT's methods begin with a capital; what dask and Jupyter look for does not.
        if not name[:1].isupper() and name not in _UHI:
            raise AttributeError(f"{type(self).__name__} has no {name!r}")
        return getattr(self.GetValue(), name)

    def __getitem__(self, name: str) -> Any:
        return self.GetValue()[name]


class Result(_Collection):
    """A booked action.

    It is a Dask collection: ``dask.compute``, ``persist`` and ``client.compute`` take it, together with
    any others. Touched as ROOT users do (``h.GetMean()``, ``h.Draw()``, ``n.GetValue()``) it is computed,
    once, with everything booked on the same frame and not computed yet. What Dask has computed in this
    process is here as well.
    """

    def __init__(self, bookings: Bookings, node: Any) -> None:
        self.bookings = bookings
        self.node = node
        self._hold = Hold(bookings, node)
        self._given: Lowering | None = None
        self._blob: bytes | None = None
        self._value: Any = None
        self._variations: weakref.ref[Result] | None = None
        self.skipped: tuple[Skipped, ...] = ()
        """What the value does not have: files, or parts of them, that could not be read; see `RDataFrame`."""
        bookings.add(self)

    @property
    def varied(self) -> bool:
        """Whether the value is a map of variations."""
        return bool(self.node.operation.name == "VariationsFor")

    @property
    def taken(self) -> Taken | None:
        """Which collection the value is, where it is one."""
        taken: Taken | None = vars(self.node).get("taken")
        return taken

    @property
    def computed(self) -> bool:
        """Whether the value is here."""
        return self._blob is not None

    @property
    def proxied_node(self) -> Any:
        """DistRDF's node, where ROOT looks for it."""
        return self.node

    def keep(self, blob: bytes) -> None:
        """Take the value that was computed, as a blob; `Bookings` calls this."""
        self._blob = blob

    def GetValue(self) -> Any:  # noqa: N802  (ROOT's name)
        """Return the value, computing it, and whatever else is booked on the frame, if it has not been."""
        if self._blob is None:
            # A caller that draws meanwhile has set the value already.
            self.bookings.run(self)
        if self._value is None:
            self._value = self.anew()
            _keep_with(self._value, self._hold)
        return self._value

    def anew(self) -> Any:
        """Return the value of what is computed, made anew: this result keeps its own."""
        assert self._blob is not None
        return _made(self._blob, self.bookings.client, varied=self.varied, taken=self.taken)

    def debug(self, which: int | str | None = None, *, attach: bool = False) -> Any:
        """Run one range of this result again, in this process and thread: the same file and entries.

        ``breakpoint()`` in Python code stops, and what such code raises opens pdb. The commands are printed
        by which gdb debugs C++.

        Parameters
        ----------
        which
            Number of the range in its run, from 0; ``"17.0"`` is the first half of one that was divided.
            By default the range that failed last, of the results of this frame, or the first.
        attach
            Whether to wait until gdb is attached.

        Returns
        -------
        Any
            The result of this range alone; None where it has no entries.

        Raises
        ------
        ConfigurationError
            The run has no such range.
        GraphError
            It writes files.
        Exception
            What the user's code raises.
        """
        if snapshots.output(self.node) is not None:
            raise GraphError("debug writes no files: debug a Count() of the node that the Snapshot is of")
        mapper, place = self.bookings.alone(self)
        which = which if which is not None else debugging.failed_range(self.bookings.last_error) or 0
        blob = debugging.run(mapper, which, place, attach=attach)
        return None if blob is None else _made(blob, None, varied=self.varied, taken=self.taken)

    def create_variations(self) -> Result:
        """Book the systematic variations of this result.

        ``ROOT.RDF.Distributed.VariationsFor`` calls this. As long as they are held, they are booked once:
        ROOT counts nominal results twice where it clones an action with two maps of its variations.

        Raises
        ------
        GraphError
            It has none: arrays, a Snapshot, a cut-flow report, a map of variations.
        """
        operations.check_varied(self.node)
        known = self._variations() if self._variations is not None else None
        if known is None:
            known = Result(self.bookings, operations.book(self.node, "VariationsFor", (), {}))
            self._variations = weakref.ref(known)
        return known

    def __dask_graph__(self) -> Any:
        self._given = None
        if not self.computed and self.bookings.drawn(self):
            raise GraphError(
                "LiveVisualize shows results that are touched, such as by GetValue() or Draw(): Dask tells "
                "nothing on the way"
            )
        if self._blob is not None:
            key, _ = self._where()
            return {key: DataNode(key, (self._blob,))}
        self._given = self.bookings.lower(self)
        return self._given.graph.graph

    def _where(self) -> tuple[Key, int]:
        # In the graph that was given out last: Dask asks for the keys right after it.
        if self._given is None and self._blob is not None:
            return f"{PREFIX}value-{wire.digest(self._blob)[:32]}", 0
        lowering = self._given or self.bookings.lower(self)
        return lowering.graph.finished, lowering.places[self.node.node_id]

    def __repr__(self) -> str:
        return reprs.of_result(self.node, computed=self.computed)

    def _repr_html_(self) -> str:
        return reprs.of_result_as_html(self.node, self.GetValue() if self.computed else None)


class PersistedResult(_Collection):
    """A result whose computation has been started by ``dask.persist``."""

    def __init__(self, graph: Mapping[Key, Any], key: Key, value: Value) -> None:
        self._graph = graph
        self._key = key
        self._value = value

    def GetValue(self) -> Any:  # noqa: N802  (ROOT's name)
        """Wait for the value and return it."""
        return self._computed

    @functools.cached_property
    def _computed(self) -> Any:
        return self.compute()

    @property
    def computed(self) -> bool:
        """Whether the value has arrived, on the cluster at least."""
        result = self._graph[self._key]
        return not isinstance(result, Future) or bool(result.done())

    def __dask_graph__(self) -> Any:
        return self._graph

    def _where(self) -> tuple[Key, int]:
        return self._key, self._value.place

    @property
    def varied(self) -> bool:
        """Whether the value is a map of variations."""
        return self._value.varied

    @property
    def taken(self) -> Taken | None:
        """Which collection the value is, where it is one."""
        return self._value.taken


@dataclass(frozen=True)
class Value(Step):
    """Make the value of a result out of the results of its run."""

    place: int
    """Its place among them."""
    varied: bool = False
    """Whether it is a map of variations."""
    taken: Taken | None = None
    """The collection that is made of arrays, if one is."""

    def __call__(self, keys: Sequence[Sequence[bytes]]) -> Any:
        """Make it; Dask gives a list with what each key of the collection stands for, here one."""
        (blobs,) = keys
        return _made(blobs[self.place], None, varied=self.varied, taken=self.taken)


def _made(blob: bytes, client: Client | None, *, varied: bool, taken: Taken | None = None) -> Any:
    with making:
        mergeable = wire.loads(blob)
        if not isinstance(mergeable, Written):
            return values.value(mergeable, varied=varied, taken=taken)
    arguments = mergeable.tree, snapshots.files(mergeable)
    return RDataFrame(*arguments) if client is None else RDataFrame.on(client, arguments, None)


def _keep_with(value: Any, hold: Hold) -> None:
    """Let a value keep its result in the graph, as ROOT's do: reports of the frame list its cuts."""
    for each in value.values() if type(value) is dict else (value,):
        with suppress(TypeError):  # a number
            weakref.finalize(each, _let_go, hold).atexit = False


def _let_go(_: Hold) -> None:
    pass


def _itself(value: Any) -> Any:
    return value


def _persisted(
    graph: Mapping[Key, Any], key: Key, value: Value, *, rename: Mapping[str, str] | None = None
) -> PersistedResult:
    return PersistedResult(graph, (rename or {}).get(str(key), key), value)
