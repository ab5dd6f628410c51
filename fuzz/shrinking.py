"""Making a program smaller that still differs in the same way.

hypothesis shrinks what was drawn, in hundreds of runs, and a run takes up to ten seconds. What a program
is made of is known here, so tens of runs do.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from fuzz.programs import Graph, Program
from fuzz.running import Outcome

_SIMPLE = {
    "rounds": (1,),
    "execution": ("local",),
    "merge_on": ("cluster",),
    "fan_in": (8,),
    "door": ("ours",),
    "compute": ("touch",),
    "npartitions": (1, 2, 3, 5),
}
"""What is simpler of each part of a program, the simplest first."""
_SIMPLE_SOURCES = ("one file", "several files")


def shrink(
    program: Program, outcome: Outcome, run: Callable[[Program], Outcome], limit_s: float
) -> tuple[Program, Outcome]:
    """Make a program smaller as long as its outcome is of the same kind.

    Parameters
    ----------
    program, outcome
        What was found.
    run
        Runs a program.
    limit_s
        How long this may take.
    """
    end_s = time.monotonic() + limit_s
    tried = {program}
    progress = True
    while progress:
        progress = False
        for candidate in simpler(program):
            if time.monotonic() > end_s:
                return program, outcome
            if candidate in tried:
                continue
            tried.add(candidate)
            found = run(candidate)
            if (found.status, found.kind) == (outcome.status, outcome.kind):
                program, outcome, progress = candidate, found, True
                break
    return program, outcome


def simpler(program: Program) -> Iterator[Program]:
    """Yield programs that are one thing simpler, those first that leave most out."""
    if len(program.graphs) > 1:
        for graph in program.graphs:
            yield replace(program, graphs=(graph,))
    for place, graph in enumerate(program.graphs):
        for smaller in _graphs(graph):
            yield replace(program, graphs=(*program.graphs[:place], smaller, *program.graphs[place + 1 :]))
    for name, values in _SIMPLE.items():
        for value in values:
            if value == getattr(program, name):
                break
            yield replace(program, **{name: value})


def _graphs(graph: Graph) -> Iterator[Graph]:
    if len(graph.actions) > 1:
        for action in graph.actions:
            yield replace(graph, actions=(action,))
    for place, action in enumerate(graph.actions):
        others = graph.actions[:place], graph.actions[place + 1 :]
        if any(others):
            yield replace(graph, actions=(*others[0], *others[1]))
        if action.varied:
            yield replace(graph, actions=(*others[0], replace(action, varied=False), *others[1]))
    for number in range(len(graph.steps), 0, -1):
        yield _without(graph, number)
    for source in _SIMPLE_SOURCES:
        if source == graph.source:
            break
        yield replace(graph, source=source)


def _without(graph: Graph, number: int) -> Graph:
    """Leave a step out; what was booked on it is booked on what it was booked on."""
    parent = graph.steps[number - 1].parent

    def renumbered(node: int) -> int:
        return parent if node == number else node - (node > number)

    steps = [step for place, step in enumerate(graph.steps, 1) if place != number]
    return replace(
        graph,
        steps=tuple(replace(step, parent=renumbered(step.parent)) for step in steps),
        actions=tuple(replace(action, node=renumbered(action.node)) for action in graph.actions),
    )
