"""Programs, as a strategy of hypothesis; simple ones first, so that what is found shrinks to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import strategies as st

from fuzz.programs import Action, Graph, Program, Step
from fuzz.sources import ENTRIES, SOURCES

Draw = Callable[[st.SearchStrategy[Any]], Any]


@dataclass(frozen=True)
class Column:
    """A column that can be used."""

    name: str
    bound: float = 1.0
    """What its magnitude does not exceed."""
    exact: bool = True
    """Whether sums of it are exact, in whatever order."""
    vector: bool = False


_BASE = {
    "x": Column("x", ENTRIES),
    "k": Column("k", 5),
    "w": Column("w", 2),
    "f": Column("f", ENTRIES),
    "r": Column("r", exact=False),
    "v": Column("v", ENTRIES, vector=True),
    "other.x": Column("other.x", ENTRIES),
    "other.k": Column("other.k", 5),
}


@dataclass
class _Node:
    """What is known of a node while its program is made."""

    columns: list[Column]
    varied: bool = False


_CUTS = (
    "x < 10",
    "x >= 0",
    "x < 0",
    "x > 250",
    "x == 3",
    "k == 1",
    "int(x) / 50 % 2 == 0",
    "x == 1 || x == 299",
)
_NUMBERED = ("rdfentry_ < 10", "tdfentry_ % 2 == 0")
_SAMPLES = (
    'rdfsampleinfo_.Contains("_1.root") ? 1. : 0.25',
    'rdfsampleinfo_.Contains("fuzz") ? 1. : 0.25',
    'rdfsampleinfo_.AsString() == "" ? 1. : 0.25',
    "double(rdfsampleinfo_.NEntries())",
    "double(rdfsampleinfo_.EntryRange().first)",
)
_METADATA = (
    'rdfsampleinfo_.GetD("lumi")',
    'rdfsampleinfo_.GetSampleName() == "A" ? 1. : 0.25',
    'double(rdfsampleinfo_.GetI("id", 7))',
    'rdfsampleinfo_.GetS("sort", "none") == "B" ? 1. : 0.25',
)


_REFUSED = tuple(name for name in SOURCES if name.endswith("list") or name.startswith("global"))
"""Sources of which some entries are read: what used to be wrong, and is refused."""
_READ = tuple(name for name in SOURCES if name not in _REFUSED)


def _mostly(often: Sequence[Any], seldom: Sequence[Any]) -> st.SearchStrategy[Any]:
    """Draw one of some, and seldom one of others."""
    return st.integers(0, 15).flatmap(lambda number: st.sampled_from(seldom if number == 15 else often))


def programs() -> st.SearchStrategy[Program]:
    """Return all programs."""
    return _programs()


@st.composite
def _programs(draw: Draw) -> Program:
    return Program(
        graphs=tuple(draw(st.lists(_graphs(), min_size=1, max_size=2))),
        door=draw(st.sampled_from(["ours", "root"])),
        compute=draw(st.sampled_from(["touch", "compute", "persist", "RunGraphs"])),
        npartitions=draw(st.sampled_from([1, 2, 3, 5, 8, 13, 40, None])),
        fan_in=draw(st.sampled_from([8, 2, 3])),
        merge_on=draw(st.sampled_from(["cluster", "lambda"])),
        execution=draw(st.sampled_from(["local", "local", "local", "emulated"])),
        rounds=draw(st.sampled_from([1, 2])),
    )


@st.composite
def _graphs(draw: Draw) -> Graph:
    source = draw(_mostly(_READ, _REFUSED))
    nodes = [_Node([_BASE[name] for name in SOURCES[source].columns if name in _BASE])]
    steps = []
    for number in range(1, 1 + draw(st.integers(0, 4))):
        parent = draw(st.integers(0, number - 1).map(lambda back, last=number - 1: last - back))
        step, node = draw(st.sampled_from(_STEPS))(draw, nodes[parent], number, source)
        steps.append(replace(step, parent=parent))
        nodes.append(node)
    actions = []
    for place in range(1 + draw(st.integers(0, 3))):
        chosen = draw(st.integers(0, len(steps)).map(lambda back: len(steps) - back))
        kind = draw(_mostly(_ACTIONS, _DEFAULTS if source == "default columns" else _RARE))
        action = kind(draw, nodes[chosen], place)
        varied = nodes[chosen].varied and action.operation in _VARIABLE and draw(st.booleans())
        actions.append(replace(action, node=chosen, varied=varied))
    return Graph(source, tuple(steps), tuple(actions))


def _filter(draw: Draw, node: _Node, number: int, source: str) -> tuple[Step, _Node]:
    cut = draw(_mostly(_CUTS, _NUMBERED))
    named = draw(st.booleans())
    return Step(0, "Filter", f'"{cut}", "cut {number}"' if named else f'"{cut}"'), node


def _vector_filter(draw: Draw, node: _Node, number: int, source: str) -> tuple[Step, _Node]:
    vectors = [column for column in node.columns if column.vector]
    if not vectors:
        return _filter(draw, node, number, source)
    return Step(0, "Filter", f'"{draw(st.sampled_from(vectors)).name}.size() > 1"'), node


def _define(draw: Draw, node: _Node, number: int, source: str) -> tuple[Step, _Node]:
    column = _numbers(draw, node)
    name = f"d{number}"
    expression, made = draw(
        _mostly(
            [
                (f"{column.name} * 2", replace(column, name=name, bound=2 * column.bound)),
                (f"double({column.name}) - x", replace(column, name=name, bound=2 * ENTRIES)),
                ("double(rdfslot_)", Column(name)),
                (f"ROOT::RVecD(k, {column.name})", replace(column, name=name, vector=True)),
                (f"{column.name} > 3", Column(name)),
                (f"(unsigned char)({column.name})", Column(name, 256)),
            ],
            [("double(rdfentry_)", Column(name, ENTRIES))],
        )
    )
    return Step(0, "Define", f'"{name}", "{expression}"'), _with(node, made)


def _redefine(draw: Draw, node: _Node, number: int, source: str) -> tuple[Step, _Node]:
    return Step(0, "Redefine", '"x", "x + 4"'), node


def _alias(draw: Draw, node: _Node, number: int, source: str) -> tuple[Step, _Node]:
    column = draw(st.sampled_from(node.columns))
    return Step(0, "Alias", f'"a{number}", "{column.name}"'), _with(node, replace(column, name=f"a{number}"))


def _per_sample(draw: Draw, node: _Node, number: int, source: str) -> tuple[Step, _Node]:
    expressions = _METADATA + _SAMPLES if SOURCES[source].metadata else _SAMPLES
    expression = draw(st.sampled_from(expressions))
    return Step(0, "DefinePerSample", f"\"s{number}\", '{expression}'"), _with(node, Column(f"s{number}", ENTRIES))


def _vary(draw: Draw, node: _Node, number: int, source: str) -> tuple[Step, _Node]:
    arguments = draw(
        st.sampled_from(
            [
                '"x", "ROOT::RVecD{x - 290, x + 5}", 2',
                '"x", "ROOT::RVecD{x - 4, x + 4}", ["down", "up"]',
                f'"x", "ROOT::RVecD{{x - 1000, x, x + 1}}", 3, "third {number}"'.replace("third ", "third_"),
                f'["x", "w"], "ROOT::RVec<ROOT::RVecD>{{{{x + 2, x}}, {{w, w + 1}}}}", 2, "both{number}"',
            ]
        )
    )
    return Step(0, "Vary", arguments), _Node(node.columns, varied=True)


def _holes(draw: Draw, node: _Node, number: int, source: str) -> tuple[Step, _Node]:
    """Only meaningful where a file has no ``w``, but taken everywhere."""
    step = draw(
        st.sampled_from(
            [
                Step(0, "DefaultValueFor", '"w", 8.'),
                Step(0, "FilterAvailable", '"w"'),
                Step(0, "FilterMissing", '"w"'),
            ]
        )
    )
    return step, node


_STEPS = (_filter, _filter, _define, _define, _vary, _per_sample, _alias, _redefine, _vector_filter, _holes)


def _with(node: _Node, column: Column) -> _Node:
    return _Node([*node.columns, column], node.varied)


def _numbers(draw: Draw, node: _Node) -> Column:
    return draw(st.sampled_from([column for column in node.columns if not column.vector]))


def _number(operation: str, **options: bool) -> Callable[[Draw, _Node, int], Action]:
    """Make an action on a column, whose result is a number, or numbers."""
    divides = options.get("divides", False)

    def action(draw: Draw, node: _Node, place: int) -> Action:
        column = draw(st.sampled_from(node.columns))
        bound = max(1.0, column.bound)
        scale = bound * bound if divides else 0.0 if column.exact else bound * ENTRIES
        return Action(0, operation, f'"{column.name}"', scale)

    return action


def _count(draw: Draw, node: _Node, place: int) -> Action:
    return Action(0, "Count", "")


def _report(draw: Draw, node: _Node, place: int) -> Action:
    return Action(0, "Report", "")


def _stats(draw: Draw, node: _Node, place: int) -> Action:
    column, weight = _numbers(draw, node), draw(st.sampled_from(["", ', "w"']))
    return Action(0, "Stats", f'"{column.name}"{weight}', max(1.0, column.bound) ** 2)


_EDGES = "np.array([-1., 5., 10., 100., 400.])"


def _axis(draw: Draw) -> str:
    """Draw the limits of an axis; automatic ones and edges among them."""
    return draw(
        _mostly(
            ["10, 0., 100.", "7, -50., 1000.", "4, 0., 4.", f"4, {_EDGES}", "200, 0., 200."],
            ["10, 0., 0."],
        )
    )


def _histogram(dimensions: int, kind: str = "Histo") -> Callable[[Draw, _Node, int], Action]:
    """Make an action that fills a histogram or a profile of so many axes."""

    def action(draw: Draw, node: _Node, place: int) -> Action:
        axes = [_axis(draw) for _ in range(dimensions)]
        if kind == "Histo" and dimensions > 1 or dimensions > 2:
            # Limits only, or edges only.
            axes = [_EDGES_OR.get(axis, axis) for axis in axes]
        filled = dimensions + (kind == "Profile")
        columns = [_numbers(draw, node) if filled > 1 else draw(st.sampled_from(node.columns)) for _ in range(filled)]
        weights = [Column("w", 2)] if draw(st.booleans()) else []
        names = ", ".join(f'"{column.name}"' for column in [*columns, *weights])
        inexact = not all(column.exact for column in columns)
        scale = ENTRIES * max(column.bound for column in columns) ** 2 if inexact or kind == "Profile" else 0.0
        return Action(0, f"{kind}{dimensions}D", f'("h{place}", "", {", ".join(axes)}), {names}', scale)

    return action


_EDGES_OR = {f"4, {_EDGES}": "5, -5., 300."}


def _automatic(draw: Draw, node: _Node, place: int) -> Action:
    return Action(0, "Histo1D", f'"{draw(st.sampled_from(node.columns)).name}"', ENTRIES**3)


def _model(draw: Draw, node: _Node, place: int) -> Action:
    column = draw(st.sampled_from(node.columns))
    model = draw(
        st.sampled_from(
            [
                'ROOT.RDF.TH1DModel("m", "t;x;y", 10, 0., 300.)',
                'ROOT.RDF.TH1DModel(ROOT.TH1D("m", "t", 10, 0., 300.))',
            ]
        )
    )
    return Action(0, "Histo1D", f'{model}, "{column.name}"', 0.0 if column.exact else ENTRIES)


_MANY = {"HistoND": "THnDModel", "HistoNSparseD": "THnSparseDModel"}


def _many(operation: str) -> Callable[[Draw, _Node, int], Action]:
    def action(draw: Draw, node: _Node, place: int) -> Action:
        weight = draw(st.sampled_from(["", ', "w"']))
        one, other = _numbers(draw, node), _numbers(draw, node)
        model = f"ROOT.RDF.{_MANY[operation]}"
        axes = '"n", "", 2, [5, 4], [0., 0.], [300., 5.]'
        scale = 0.0 if one.exact and other.exact else ENTRIES
        return Action(0, operation, f'{model}({axes}), ["{one.name}", "{other.name}"{weight}]', scale)

    return action


def _points(draw: Draw, node: _Node, place: int) -> Action:
    one, other = _numbers(draw, node), _numbers(draw, node)
    if draw(st.booleans()):
        return Action(0, "GraphAsymmErrors", f'"{one.name}", "{other.name}", "w", "w", "w", "w"')
    return Action(0, "Graph", f'"{one.name}", "{other.name}"')


def _arrays(draw: Draw, node: _Node, place: int) -> Action:
    chosen = draw(st.lists(st.sampled_from(node.columns), min_size=1, max_size=2, unique=True))
    names = [column.name for column in chosen]
    lazy = draw(st.sampled_from(["", ", lazy=True"]))
    return Action(0, "AsNumpy", f"{names!r}{lazy}")


def _snapshot(draw: Draw, node: _Node, place: int) -> Action:
    chosen = draw(st.lists(st.sampled_from(node.columns), min_size=1, max_size=2, unique=True))
    names = [column.name for column in chosen]
    columns = draw(st.sampled_from([repr(names), '"[xk]"']))
    return Action(0, "Snapshot", f'"t", target({place}), {columns}')


def _looked_up(draw: Draw, node: _Node, place: int) -> Action:
    operation, arguments = draw(
        st.sampled_from(
            [
                ("GetColumnNames", ""),
                ("GetDefinedColumnNames", ""),
                ("GetFilterNames", ""),
                ("HasColumn", '"x"'),
                ("GetColumnType", '"x"'),
            ]
        )
    )
    return Action(0, operation, arguments)


def _missing(draw: Draw, node: _Node, place: int) -> Action:
    return Action(0, draw(st.sampled_from(["Take['double']", "Display"])), '"x"')


def _default(draw: Draw, node: _Node, place: int) -> Action:
    return Action(0, draw(st.sampled_from(["Sum", "Max", "Min"])), "")


_VARIABLE = {
    "Sum",
    "Mean",
    "StdDev",
    "Min",
    "Max",
    "Histo1D",
    "Histo2D",
    "Profile1D",
    "Count",
    "Stats",
    "Graph",
    "Histo3D",
}
_ACTIONS = (
    _count,
    _number("Sum"),
    _number("Mean", divides=True),
    _number("StdDev", divides=True),
    _number("Min"),
    _number("Max"),
    _stats,
    _report,
    _histogram(1),
    _histogram(1),
    _histogram(2),
    _histogram(3),
    _histogram(1, "Profile"),
    _histogram(2, "Profile"),
    _model,
    _many("HistoND"),
    _many("HistoNSparseD"),
    _points,
    _arrays,
    _snapshot,
    _looked_up,
)
_RARE = (_automatic, _missing)
_DEFAULTS = (_default,)
