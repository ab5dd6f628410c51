"""What a program is: plain data, which can be written as a Python script."""

from __future__ import annotations

import pprint
from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """A transformation."""

    parent: int
    """Number of the node that it is booked on; 0 is the frame."""
    operation: str
    arguments: str
    """The arguments, as Python writes them."""


@dataclass(frozen=True)
class Action:
    """A result that is asked for."""

    node: int
    """Number of the node that it is booked on: 0 is the frame, 1 the first step."""
    operation: str
    arguments: str
    """The arguments, as Python writes them. ``target(I)`` is a new path for the I-th action."""
    scale: float = 0.0
    """What 1e-12 is taken of, at least, where numbers are compared; 0 compares them bit for bit."""
    varied: bool = False
    """Whether its variations are asked for."""


@dataclass(frozen=True)
class Graph:
    """A frame, and what is booked on it."""

    source: str
    """Name of one of `fuzz.sources.SOURCES`."""
    steps: tuple[Step, ...]
    actions: tuple[Action, ...]
    held: bool = False
    """Whether all nodes are held until the results are there, also those that lead to none."""


@dataclass(frozen=True)
class Program:
    """Graphs, and how they are computed."""

    graphs: tuple[Graph, ...]
    door: str = "ours"
    """``ours`` is `dask_root_lambda.RDataFrame`, ``root`` is ``ROOT.RDataFrame(executor=client)``."""
    compute: str = "touch"
    """How results are computed: ``touch``, ``compute``, ``persist`` or ``RunGraphs``."""
    npartitions: int | None = 1
    fan_in: int = 8
    merge_on: str = "cluster"
    execution: str = "local"
    rounds: int = 1
    """How often the program is run in a row: from the second time on, environments are warm."""


def booking(graph: Graph, name: str = "book") -> str:
    """Return a function, as text, that books a graph on a frame and returns its results."""
    lines = [f"def {name}(df0):"]
    for number, step in enumerate(graph.steps, 1):
        lines.append(f"    df{number} = df{step.parent}.{step.operation}({step.arguments})")
    if graph.held:
        lines.append(f"    keep({', '.join(f'df{number}' for number in range(len(graph.steps) + 1))})")
    lines.append("    return [")
    for action in graph.actions:
        booked = f"df{action.node}.{action.operation}({action.arguments})"
        lines.append(f"        VariationsFor({booked})," if action.varied else f"        {booked},")
    return "\n".join([*lines, "    ]"])


def script(program: Program, found: str = "") -> str:
    """Return a Python script that runs a program and prints what differs.

    Parameters
    ----------
    program
        The program.
    found
        What was found, for the script's first lines.
    """
    comment = [f"# {line}" for line in found.splitlines()]
    books = [
        f"# {graph.source}\n{booking(graph, f'book_{number}')}" for number, graph in enumerate(program.graphs)
    ]
    return "\n".join(
        [
            *comment,
            "# Booked is:",
            *(f"# {line}" for book in books for line in book.splitlines()),
            "from fuzz.programs import Action, Graph, Program, Step",
            "from fuzz.workers import examine",
            "",
            f"PROGRAM = {pprint.pformat(program, width=100)}",
            "",
            'if __name__ == "__main__":',
            "    print(examine(PROGRAM))",
        ]
    )
