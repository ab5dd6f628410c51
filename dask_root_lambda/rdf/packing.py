"""A DistRDF graph, packed for the road.

DistRDF parses the constructor's arguments into a head node, keeps the booked operations as nodes, and
knows how to run them on a range of entries. `pack` makes a mapper of a head node: the callables of
DistRDF that a range needs, the user's code, and the file table, under an identity.
"""

from __future__ import annotations

import copy
import functools
import os
import types
import uuid
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import ROOT
from dask.tokenize import TokenizationError, tokenize
from distributed import Client
from ROOT._distrdf.Backends.Base import BaseBackend
from ROOT._distrdf.Node import Node
from ROOT._distrdf.Operation import Action, InstantAction, Snapshot

from dask_root_lambda import __version__, destination
from dask_root_lambda.plan import history, secret, sizing, unfinished
from dask_root_lambda.plan.space import RunSpace
from dask_root_lambda.plan.steps import Finish, PackedMapper
from dask_root_lambda.protocol import rootfile, wire
from dask_root_lambda.protocol.errors import GraphError
from dask_root_lambda.protocol.intervals import Division
from dask_root_lambda.protocol.task import Attachment, FarData, Mapper, Program, session
from dask_root_lambda.rdf import cuts, dataset, heads, names, snapshots, whole
from lambda_runtime import diagnostics, reports, variables
from lambda_runtime.attachments import note
from lambda_runtime.runner import ROOT_VERSION

_compiled: set[str] = set()
"""Names of the users' C++ code that is known to compile."""
_refused: list[tuple[frozenset[str], str]] = []
"""The error of code that did not compile, and the names of what was registered beside it."""


@dataclass(frozen=True)
class Packed:
    """A graph ready to become a Dask graph."""

    mapper: PackedMapper
    finish: Finish
    actions: tuple[Any, ...]
    """DistRDF's nodes of the actions, in the order of their results."""

    @property
    def repeatable(self) -> bool:
        """Whether a later run has the same results: all is read, and no file is written or left out."""
        finish = self.finish
        whole = finish.stop is None and finish.at_least is None
        return whole and finish.skipped is None and not self.mapper.writes


Begin = Callable[[dataset.Dataset, str, str], tuple[RunSpace, Division, str]]
"""Dataset, name of the graph and identity of the run -> its space, how it is divided, and why so."""


def pack(
    head: Any,
    actions: Sequence[Any],
    n_ranges: int | None,
    client: Client | None = None,
    begin: Begin | None = None,
    wanted: int | None = None,
) -> Packed:
    """Pack actions that are booked on a head node.

    Parameters
    ----------
    head
        DistRDF's head node.
    actions
        DistRDF's nodes of the actions.
    n_ranges
        Ranges to divide its dataset into; None for what the run was divided into before, or what the
        client's cluster runs at once.
    client
        Whose cluster computes it.
    begin
        Begins the run, where that is not to be begun as usual.
    wanted
        How many of the first entries are needed; None for all.

    Raises
    ------
    InputError
        A file of the dataset cannot be read, or changed since the head node was made.
    GraphError
        Something in the graph cannot be pickled, or the user's code does not compile.
    """
    booked = _above(head, actions)
    nodes = _nodes(booked, renamed=dataset.renamed(head))
    computed = tuple(node for node in booked if _is_action(node))
    data = dataset.of(head, nodes, n_ranges, wanted)
    attachments = tuple(_attachments(head.backend))
    note(attachments)
    code = "\n".join(_checked_code(head.backend.strings_to_declare))
    identity = _identity(code, head.backend.initialization, attachments)
    graph = _token(_operations(nodes), identity)
    values, skips = variables.read(code), head.skipped is not None and bool(data.files)
    versions, occasion = (ROOT_VERSION, wire.WIRE_VERSION, __version__), _occasion(nodes)
    run = _token(graph, data.identity, data.names, values, versions, occasion, skips)
    begin = begin or functools.partial(_begun, head, n_ranges, client)
    space, division, why = begin(data, graph, run)
    _place_outputs(nodes, data, len(division), occasion)
    program = Program(
        initialize=head.backend.initialization,
        range=data.range,
        build=data.build,
        nodes=nodes,
    )
    mapper = Mapper(
        program=_pickled(program),
        compiled_key=_token(graph, data.shape),
        files=data.files,
        friends=data.friends,
        code=code,
        attachments=attachments,
        source=data.source,
        session=session(),
        entries=data.counts,
        names=data.names,
        alone=whole.runs_alone(nodes, _written_code(code, attachments)),
        variables=values,
        skips=skips,
    )
    blob = wire.dumps(mapper)
    packed = PackedMapper(
        space=space,
        blob=blob,
        digest=wire.digest(blob),
        division=division,
        root=ROOT_VERSION,
        identity=identity,
        files=tuple(file.url for file in data.files),
        sizes=tuple(file.identity.size for file in data.files),
        local_inputs=_local(file.url for file in (*data.files, *data.friends)),
        local_outputs=_local(_outputs(nodes)),
        writes=any(_outputs(nodes)),
        why=why,
        results=names.names(node.operation for node in computed),
        far=FarData(secret.of_user().far_key, head.cache_days) if head.cache_days and data.files else None,
    )
    finish = Finish(
        space,
        len(data.files),
        data.entries,
        graph=graph,
        size=data.whole_size,
        stop=data.stop,
        at_least=_at_least(computed, data, wanted),
        skipped=tuple(head.skipped) if mapper.skips else None,
        drawn=names.drawn([node.operation for node in computed]),
    )
    return Packed(packed, finish, computed)


def _at_least(computed: Iterable[Any], data: dataset.Dataset, wanted: int | None) -> int | None:
    """Return how many entries event loops have to see, where they need not see all that there are."""
    if any(map(heads.is_display, computed)):
        return 0  # ROOT ends the loop when it has its rows
    return wanted if data.stop is not None else None


def _begun(
    head: Any, n_ranges: int | None, client: Client | None, data: dataset.Dataset, graph: str, identity: str
) -> tuple[RunSpace, Division, str]:
    """Begin the run of a graph on a dataset, or go on with it."""
    user = secret.of_user()
    run = user.run(identity)
    if n_ranges is None:
        # A run that was begun before is not divided anew, and its first file not opened for it.
        choices: list[sizing.Choice] = []

        def decide() -> Division:
            choices.append(suggested(head, data, graph, client))
            return data.divided(choices[-1].n_ranges)

        division = unfinished.division(user, run, decide)
        why = choices[-1].why if choices else f"{len(division):,} ranges, as it was begun before"
    else:
        division = data.divided(n_ranges)
        why = sizing.as_asked(n_ranges, len(division))
    worker = f"{client.id if client is not None else ''} {tokenize([str(interval) for interval in division])}"
    return unfinished.begin(user, run, worker, _alive(client)), division, why


def not_begun(head: Any, n_ranges: int | None, client: Client | None, failed: Division | None) -> Begin:
    """Return what divides a run and begins none, to look at one of its ranges.

    Parameters
    ----------
    head, n_ranges, client
        See `pack`.
    failed
        How a run of the frame was divided that failed, whose ranges are meant; None for none.
    """

    def begin(data: dataset.Dataset, graph: str, identity: str) -> tuple[RunSpace, Division, str]:
        user = secret.of_user()
        run = user.run(identity)
        space = RunSpace(run, user.key(run), session="")
        if failed is not None and failed[-1].stop <= data.end:
            return space, failed, "as the run that failed"
        if n_ranges is not None:
            return space, data.divided(n_ranges), "as asked for"
        known = unfinished.decided(user, run)
        return space, known or data.divided(suggested(head, data, graph, client).n_ranges), "as it would be"

    return begin


def suggested(head: Any, data: dataset.Dataset, graph: str, client: Client | None) -> sizing.Choice:
    """Choose the number of ranges of a run for the user: by what the same graph took before, if known."""
    slots, clusters = destination.slots(client), dataset.clusters(head)
    record = history.recall(graph)
    work_s = record.work_of(data.whole_size) if record is not None else None
    if work_s is None:
        return sizing.without_history(slots, clusters)
    return sizing.by_work(work_s, slots, clusters, source="the last run of this graph")


def _alive(client: Client | None) -> Callable[[], bool]:
    """Return what tells whether a client is in use still."""
    if client is None:
        return lambda: True
    known = weakref.ref(client)
    return lambda: (here := known()) is not None and here.status != "closed"


def _checked_code(registered: dict[str, str]) -> Iterator[str]:
    """Yield the C++ code that users gave to ``DistributeCppCode``, in guards, which compiles here.

    Raises
    ------
    GraphError
        It does not compile. It is taken out of DistRDF's register, which is the process's: the code as the
        user corrects it would be declared after it, and fail with it. Until there is other code, the error
        comes again: without it, what an edited function did before would run, in silence.
    """
    if _refused and registered.keys() <= _refused[-1][0]:
        raise GraphError(_refused[-1][1])
    for name, code in list(registered.items()):
        with diagnostics.record() as reported:
            compiles = name in _compiled or ROOT.gInterpreter.Declare(code)
        if not compiles:
            del registered[name]
            message = (
                "the C++ code given to DistributeCppCode does not compile: call it again with the code "
                "corrected. What is defined in this process already cannot be defined anew: give it another "
                f"name, or start the process (the kernel) again.\n{reported.text}"
            )
            _refused[:] = [(frozenset(registered), message)]
            raise GraphError(message)
        _compiled.add(name)
        yield code
    _refused.clear()


def registered(backend: Any) -> tuple[Any, ...]:
    """Return what tells whether the user has registered other code, files or initialization since."""
    paths = sorted(backend.pcms | backend.shared_libraries | backend.headers | backend.files)
    stats = [(path, os.stat(path)) for path in paths if os.path.exists(path)]  # noqa: PTH110, PTH116  (strings)
    contents = tuple((path, stat.st_mtime_ns, stat.st_size) for path, stat in stats)
    code = backend.strings_to_declare
    return tuple(code.items()), backend.initialization, contents, variables.read("\n".join(code.values()))


def _above(head: Any, actions: Iterable[Any]) -> list[Any]:
    """Return actions and what is above them in the graph, in booking order, the head node first.

    An action may be above another one: the nominal one, of its variations. A report of the frame itself lists
    cuts that lead to no action.
    """
    # What the user has dropped leaves DistRDF's own list, which grows otherwise.
    listed = cuts.held(head)
    actions = list(actions)
    found = {head.node_id: head}
    for node in [*actions, *(listed if any(map(cuts.is_report_of_frame, actions)) else ())]:
        while node.node_id not in found:
            found[node.node_id] = node
            node = node.parent
    return [found[number] for number in sorted(found)]


def _is_action(node: Any) -> bool:
    return isinstance(node.operation, Action | InstantAction)


def _nodes(booked: Sequence[Any], *, renamed: bool) -> dict[int, Node]:
    """Return a graph's nodes without what differs from run to run, numbered from 0, the head's number.

    Python functions are replaced by copies that are named by their content: ROOT compiles a function once
    per name and process, so of two functions with one name it would run the first for both.
    """
    numbers = {node.node_id: position for position, node in enumerate(booked)}
    return {numbers[node.node_id]: _node(node, _parent(node, numbers), renamed=renamed) for node in booked}


def _parent(node: Any, numbers: Mapping[int, int]) -> int | None:
    # Wherever it was asked for; ranges tell it by that.
    return reports.HEAD if cuts.is_report_of_frame(node) else numbers.get(node.parent_id)


def _node(node: Any, parent: int | None, *, renamed: bool) -> Node:
    plain = Node.__new__(Node)
    operation = copy.copy(node.operation)
    if operation is not None:
        if operation.name == "DefinePerSample":
            operation.args = whole.informed(operation, renamed=renamed)
        operation.args = [_named_by_content(item) for item in operation.args]
        operation.kwargs = {name: _named_by_content(item) for name, item in operation.kwargs.items()}
    plain.__setstate__({"operation": operation, "parent_id": parent})
    return plain


def _named_by_content(item: Any) -> Any:
    if not isinstance(item, types.FunctionType):
        return item
    own = types.FunctionType(item.__code__, item.__globals__, "function", item.__defaults__, item.__closure__)
    own.__annotations__, own.__kwdefaults__ = dict(item.__annotations__), item.__kwdefaults__
    own.__name__ = own.__qualname__ = f"function_{_token(own)}"
    # For errors; see `lambda_runtime.attribution`.
    own.written_as = item.__name__  # type: ignore[attr-defined]
    return own


def _operations(nodes: Mapping[int, Node]) -> list[Any]:
    """Return the graph as plain values, to identify it by."""
    return [
        (node.operation.name, node.operation.args, node.operation.kwargs, node.parent_id)
        for node in nodes.values()
        if node.operation is not None
    ]


def _written_code(code: str, attachments: Iterable[Attachment]) -> Iterator[str]:
    """Yield the C++ code that users distribute."""
    yield code
    for each in attachments:
        if each.kind == "header":
            yield each.content.decode(errors="replace")


def _attachments(backend: Any) -> Iterator[Attachment]:
    kinds: tuple[tuple[Literal["header", "library", "pcm", "file"], set[str]], ...] = (
        ("pcm", backend.pcms),
        ("library", backend.shared_libraries),
        ("header", backend.headers),
        ("file", backend.files),
    )
    found: dict[str, tuple[str, bytes]] = {}
    for kind, paths in kinds:
        for path in sorted(paths):
            name, content = os.path.basename(path), Path(path).read_bytes()  # noqa: PTH119  (a string)
            other, before = found.setdefault(name, (path, content))
            if before != content:
                raise GraphError(
                    f"{other} and {path} have one name, and what is distributed goes into one directory: "
                    "rename one of them"
                )
            yield Attachment(name, kind, content)


def _local(urls: Iterable[str]) -> tuple[str, ...]:
    return tuple(url for url in urls if rootfile.local_path(url) is not None)


def _snapshots(nodes: Mapping[int, Any]) -> list[Any]:
    return [node.operation for node in nodes.values() if isinstance(node.operation, Snapshot)]


def _outputs(nodes: Mapping[int, Any]) -> Iterator[str]:
    """Yield where a graph's Snapshots write."""
    return (str(operation.args[1]) for operation in _snapshots(nodes))


def _place_outputs(nodes: Mapping[int, Any], data: dataset.Dataset, n_ranges: int, run: str) -> None:
    """Tell a graph's Snapshots where ranges write, which are copies of those that are booked."""
    urls = [file.url for file in (*data.files, *data.friends)]
    for operation in _snapshots(nodes):
        operation.output = snapshots.place(operation, n_ranges, urls, run)


def _occasion(nodes: Mapping[int, Any]) -> str:
    """Return what tells a run that writes files from any other: what an equal one wrote may be gone."""
    return uuid.uuid4().hex if _snapshots(nodes) else ""


def _pickled(program: Program) -> bytes:
    try:
        return wire.dumps(program)
    except Exception as error:  # whatever the user's objects raise when they are pickled
        raise GraphError(
            f"the graph cannot be sent to where it runs: {type(error).__name__}: {error}. Pass expressions "
            "as strings, and make what Python functions need inside them"
        ) from error


def _identity(code: str, initialize: Callable[[], object], attachments: tuple[Attachment, ...]) -> str:
    """Name what a graph brings into the process that runs it; one that brings nothing needs no name."""
    own = getattr(initialize, "__module__", "") == BaseBackend.__module__
    return "" if own and not code and not attachments else _token(code, initialize, attachments)


def _token(*parts: Any) -> str:
    """Identify values by their content; what has no reproducible form is like nothing else."""
    try:
        return str(tokenize(*parts, ensure_deterministic=True))
    except TokenizationError:
        return uuid.uuid4().hex
