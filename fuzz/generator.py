"""Programs, as a strategy of hypothesis."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from fuzz.actions import ACTIONS, DEFAULTS, SELDOM, VARIABLE
from fuzz.drawing import COLUMNS, Node, Place
from fuzz.programs import Action, Graph, Program, Step
from fuzz.sources import SOURCES
from fuzz.transformations import TRANSFORMATIONS

Draw = Callable[[st.SearchStrategy[Any]], Any]

_SELECTED = tuple(name for name in SOURCES if name.endswith("list") or name.startswith("global"))
"""Sources of which some entries are read."""
_READ_WHOLE = tuple(name for name in SOURCES if name not in _SELECTED)
_MAX_STEPS, _MAX_ACTIONS = 4, 4


def programs() -> st.SearchStrategy[Program]:
    """Return all programs."""
    return st.builds(
        Program,
        graphs=st.lists(_graphs(), min_size=1, max_size=2).map(tuple),
        door=st.sampled_from(["ours", "root"]),
        compute=st.sampled_from(["touch", "compute", "persist", "RunGraphs"]),
        npartitions=st.sampled_from([1, 2, 3, 5, 8, 13, 40, None]),
        fan_in=st.sampled_from([8, 2, 3]),
        merge_on=st.sampled_from(["cluster", "lambda"]),
        # An environment compiles what this process has compiled already.
        execution=st.sampled_from(["local", "local", "local", "emulated"]),
        rounds=st.sampled_from([1, 2]),
    )


@st.composite
def _graphs(draw: Draw) -> Graph:
    start = Place(draw, Node(()), 0, "")
    source = start.mostly(_READ_WHOLE, _SELECTED)
    nodes = [Node(tuple(COLUMNS[name] for name in SOURCES[source].columns if name in COLUMNS))]
    steps = []
    for number in range(1, 1 + draw(st.integers(0, _MAX_STEPS))):
        parent = draw(st.integers(0, number - 1))
        place = Place(draw, nodes[parent], number, source)
        operation, arguments, node = place.one_of(TRANSFORMATIONS)(place)
        steps.append(Step(parent, operation, arguments))
        nodes.append(node)
    actions = [_action(draw, nodes, number, source) for number in range(draw(st.integers(1, _MAX_ACTIONS)))]
    return Graph(source, tuple(steps), tuple(actions), held=start.one_of([False, True]))


def _action(draw: Draw, nodes: list[Node], number: int, source: str) -> Action:
    node = draw(st.integers(0, len(nodes) - 1))
    place = Place(draw, nodes[node], number, source)
    seldom = DEFAULTS if source == "default columns" else SELDOM
    operation, arguments, scale = place.mostly(ACTIONS, seldom)(place)
    varied = place.node.varied and operation in VARIABLE and place.one_of([True, False])
    return Action(node, operation, arguments, scale, varied)
