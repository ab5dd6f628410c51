"""RDataFrame whose results are Dask collections."""

from __future__ import annotations

import functools
import operator
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import ROOT
from dask.base import DaskMethodsMixin, compute
from dask.task_spec import Task
from dask.threaded import get as threaded_get
from dask.typing import Key
from ROOT._distrdf.PythonMergeables import SnapshotResult

from dask_root_lambda import distrdf
from dask_root_lambda.call import Select
from dask_root_lambda.distrdf import Lowered
from dask_root_lambda.protocol import wire


class Node:
    """A point of an RDataFrame graph, to book operations on.

    Each operation of DistRDF is a method: transformations (``Filter``, ``Define``, ...) return another
    `Node`, actions (``Histo1D``, ``Count``, ...) a `Result`. ``AsNumpy`` and ``Snapshot`` run at once
    unless asked to be lazy, as in ROOT. Names and types of columns are those of the first file.
    """

    def __init__(self, frame: _Frame, node: Any) -> None:
        self._frame = frame
        self._node = node
        weakref.finalize(self, _release, node)

    def __getattr__(self, name: str) -> Any:
        if name in distrdf.OPERATIONS:
            return functools.partial(self._book, name)
        if name in distrdf.LOOK_UPS:
            return getattr(self._node.rdf_node, name)
        raise AttributeError(
            f"RDataFrame has no {name!r}; its operations are {', '.join(distrdf.OPERATIONS)}"
        )

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *distrdf.OPERATIONS, *distrdf.LOOK_UPS})

    def _book(self, name: str, *args: Any, **kwargs: Any) -> Any:
        node = distrdf.book(self._node, name, args, kwargs)
        if distrdf.is_transformation(node):
            return Node(self._frame, node)
        result = Result(self._frame, node)
        return result.GetValue() if distrdf.is_instant(node) else result


class RDataFrame(Node):
    """ROOT's RDataFrame over a dataset that is divided into ranges and run by Dask.

    Parameters
    ----------
    *args
        Those of ``ROOT.RDataFrame`` that ROOT's distributed RDataFrame takes: the name of a tree or
        RNTuple with a file name, a pattern, a list of file names or an open TDirectory; a TTree or TChain; an
        ``RDatasetSpec``; or a number of entries.
    npartitions
        Ranges to divide the dataset into. A range holds whole clusters, so no more ranges have entries
        than the files have clusters. By default, as many as run at once.

    Raises
    ------
    InputError
        A file is missing, truncated or not a ROOT file, or holds no such tree.
    GraphError
        No constructor takes these arguments.
    ConfigurationError
        ``npartitions`` is not a positive whole number.

    Examples
    --------
    >>> df = RDataFrame("Events", files, npartitions=32)
    >>> h = df.Filter("nMuon == 2").Histo1D(("pt", "", 100, 0, 100), "Muon_pt")
    >>> (h,) = dask.compute(h)
    """

    def __init__(self, *args: Any, npartitions: int | None = None) -> None:
        self._arguments = args, npartitions
        frame = _Frame(distrdf.head_node(distrdf.Backend(), npartitions, args))
        super().__init__(frame, frame.head)

    @classmethod
    def from_spec(cls, path: str, npartitions: int | None = None) -> RDataFrame:
        """Make an RDataFrame of a dataset specification in JSON.

        Parameters
        ----------
        path
            The file, as ``ROOT.RDF.Experimental.FromSpec`` takes it.
        npartitions
            As for the constructor.
        """
        return cls(ROOT.Internal.RDF.RetrieveSpecFromJson(path), npartitions=npartitions)

    def __reduce__(self) -> Any:
        """Travel as the constructor's arguments, such as the files that a Snapshot wrote."""
        args, npartitions = self._arguments
        return functools.partial(RDataFrame, npartitions=npartitions), args


class _Frame:
    """A head node, the results booked on it, and the last lowering of them."""

    def __init__(self, head: Any) -> None:
        self.head = head
        self._results: weakref.WeakSet[Result] = weakref.WeakSet()
        self._lowered: tuple[Any, Lowered] | None = None

    def add(self, result: Result) -> None:
        """Remember a result that is booked."""
        self._results.add(result)

    def lower(self) -> Lowered:
        """Lower every action that is booked and not computed yet; the same graph for each of them."""
        state = distrdf.state(self.head)
        if self._lowered is None or self._lowered[0] != state:
            self._lowered = state, distrdf.lower(self.head)
        return self._lowered[1]

    def run(self) -> None:
        """Compute every result that is booked and not computed yet, in one pass, and keep the values."""
        pending = [result for result in self._results if not result.computed]
        for result, blob in zip(pending, compute(*map(_Blob, pending)), strict=True):
            result.keep(blob)


_UHI = ("axes", "counts", "kind", "values", "variances")
"""What plotting libraries ask of a histogram: https://uhi.readthedocs.io/en/latest/plotting.html"""


class _Collection(DaskMethodsMixin):
    """A result as a Dask collection of one key, which touches like the value it stands for."""

    __dask_scheduler__ = staticmethod(threaded_get)
    __dask_optimize__ = None

    @property
    def dask(self) -> Any:
        """The graph."""
        return self.__dask_graph__()

    def __dask_postcompute__(self) -> tuple[Callable[..., Any], tuple[()]]:
        return _value, ()

    def __dask_postpersist__(self) -> tuple[Callable[..., Any], tuple[Key]]:
        return _persisted, (self.__dask_keys__()[0],)

    def __dask_tokenize__(self) -> Any:
        return self.__dask_keys__()

    def GetValue(self) -> Any:  # noqa: N802  (ROOT's name)
        """Return the value, computing it if it has not been."""
        raise NotImplementedError

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
    once, with everything booked on the same frame and not computed yet.
    """

    def __init__(self, frame: _Frame, node: Any) -> None:
        self._frame = frame
        self._node = node
        self._graph: Lowered | None = None
        self._blob: bytes | None = None
        frame.add(self)
        weakref.finalize(self, _release, node)

    @property
    def computed(self) -> bool:
        """Whether the value is here."""
        return self._blob is not None

    def keep(self, blob: bytes) -> None:
        """Take the value that was computed, also as what Dask gets of it from now on."""
        self._node.value = _value([blob])
        self._blob = blob

    def GetValue(self) -> Any:  # noqa: N802  (ROOT's name)
        """Return the value, computing it, and whatever else is booked on the frame, if it has not been."""
        if not self.computed:
            self._frame.run()
        return self._node.value

    def create_variations(self) -> Result:
        """Book the systematic variations of this result.

        ``ROOT.RDF.Distributed.VariationsFor`` calls this.
        """
        return Result(self._frame, distrdf.book(self._node, "VariationsFor", (), {}))

    def __dask_graph__(self) -> Any:
        if self._blob is not None:
            self._graph = None
            (key,) = self.__dask_keys__()
            return {key: Task(key, Select(0), (self._blob,))}
        self._graph = self._frame.lower()
        return self._graph.graph.graph

    def __dask_keys__(self) -> list[Key]:
        # Of the graph that was given out last: dask asks for the keys right after it.
        if self._graph is None and self._blob is not None:
            return [(f"value-{wire.digest(self._blob)[:32]}", 0)]
        lowered = self._graph or self._frame.lower()
        index = next(index for index, node in enumerate(lowered.actions) if node is self._node)
        return [lowered.graph.results[index]]

    def __repr__(self) -> str:
        return f"<Result of {self._node.operation.name}{', computed' if self.computed else ''}>"


class _Blob(DaskMethodsMixin):
    """A result's blob as a Dask collection.

    Dask makes values in a task, which may be elsewhere and then pickles them; this one is kept here.
    """

    __dask_scheduler__ = staticmethod(threaded_get)
    __dask_optimize__ = None

    def __init__(self, result: Result) -> None:
        self._result = result

    def __dask_graph__(self) -> Any:
        return self._result.__dask_graph__()

    def __dask_keys__(self) -> list[Key]:
        return self._result.__dask_keys__()

    def __dask_postcompute__(self) -> tuple[Callable[..., Any], tuple[()]]:
        return operator.itemgetter(0), ()


class PersistedResult(_Collection):
    """A result whose computation has been started by ``dask.persist``."""

    def __init__(self, graph: Mapping[Key, Any], key: Key) -> None:
        self._graph = graph
        self._key = key

    def GetValue(self) -> Any:  # noqa: N802  (ROOT's name)
        """Wait for the value and return it."""
        return self._computed

    @functools.cached_property
    def _computed(self) -> Any:
        return self.compute()

    def __dask_graph__(self) -> Any:
        return self._graph

    def __dask_keys__(self) -> list[Key]:
        return [self._key]


class Variations(Mapping[str, Any]):
    """The nominal result and its systematic variations, by name.

    Parameters
    ----------
    mergeable
        ROOT's merged variations.
    """

    def __init__(self, mergeable: Any) -> None:
        self._mergeable = mergeable

    def GetKeys(self) -> list[str]:  # noqa: N802  (ROOT's name)
        """Return the names, ``nominal`` among them."""
        return [str(name) for name in self._mergeable.GetKeys()]

    def __getitem__(self, name: str) -> Any:
        if name not in self.GetKeys():
            raise KeyError(f"no variation {name!r}; there are {', '.join(self.GetKeys())}")
        return self._mergeable.GetVariation(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.GetKeys())

    def __len__(self) -> int:
        return len(self.GetKeys())


def _value(blobs: Sequence[bytes]) -> Any:
    """Make the value of a result out of its blob."""
    mergeable = wire.loads(blobs[0])
    if isinstance(mergeable, SnapshotResult):
        return RDataFrame(mergeable.treename, mergeable.filenames)
    if isinstance(mergeable, ROOT.Detail.RDF.RMergeableVariationsBase):
        return Variations(mergeable)
    return mergeable.GetValue()


def _persisted(
    graph: Mapping[Key, Any], key: Key, *, rename: Mapping[str, str] | None = None
) -> PersistedResult:
    renamed = rename or {}
    name, *rest = key if isinstance(key, tuple) else (key,)
    return PersistedResult(graph, (renamed.get(str(name), str(name)), *rest))


def _release(node: Any) -> None:
    """Tell DistRDF that the user has dropped a node, so that it is no longer run."""
    node.has_user_references = False
