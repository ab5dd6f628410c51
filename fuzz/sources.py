"""What programs read: a few small files of every form, written once, and the constructors' arguments."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ROOT

CLUSTER_ENTRIES = 50
ENTRIES = 1000
"""No source has more."""

COLUMNS = {
    "k": "int(x) % 5",
    "w": "0.5 + 0.25 * (int(x) % 4)",
    "f": "float(x / 4)",
    "b": "int(x) % 3 == 1",
    "r": "2 * std::fmod(x * 0.6180339887498949, 1.) - 1",
    "v": "ROOT::RVecD{x, x + 0.5, x + 1}[ROOT::RVecI{0, 1, 2} < int(x) % 4]",
    "s": 'std::string(int(x) % 2 ? "odd" : "even")',
}
"""Columns besides ``x``, which counts. Sums of all but ``r`` are exact, in whatever order."""


@dataclass(frozen=True)
class File:
    """A file to be written."""

    name: str
    entries: int
    first: int = 0
    """What ``x`` begins with."""
    tree: str = "Events"
    columns: tuple[str, ...] = ("x", *COLUMNS)
    ntuple: bool = False
    update: bool = False
    """Whether the tree is added to the file."""


def _several(stem: str, sizes: Sequence[int], **options: Any) -> list[File]:
    firsts = [sum(sizes[:number]) for number in range(len(sizes))]
    return [
        File(f"{stem}_{number}.root", size, first, **options)
        for number, (size, first) in enumerate(zip(sizes, firsts, strict=True))
    ]


_NTUPLE: Any = {"ntuple": True, "columns": ("x", "k", "w", "f", "r", "v", "s")}

FILES = (
    *_several("one", [300]),
    *_several("several", [200] * 5),
    *_several("uneven", [0, 1, 300, 0, 60]),
    *_several("empty", [0, 0]),
    *_several("friend", [130, 170], tree="Friend", columns=("x", "k")),
    *_several("ntuple", [200, 0, 120], **_NTUPLE),
    File("several_trees_a.root", 300, 0, tree="t1"),
    File("several_trees_a.root", 200, 300, tree="t2", update=True),
    File("several_trees_b.root", 120, 500, tree="t1"),
    File("several_trees_b.root", 80, 620, tree="t2", update=True),
    File("holes_0.root", 120, 0, columns=("x", "k", "w")),
    File("holes_1.root", 120, 120, columns=("x", "k")),
    File("holes_2.root", 120, 240, columns=("x", "k", "w")),
)


def write(folder: Path) -> None:
    """Write all files, and the specification in JSON."""
    for file in FILES:
        options = ROOT.RDF.RSnapshotOptions()
        options.fAutoFlush = CLUSTER_ENTRIES
        if file.update:
            options.fMode = "UPDATE"
        if file.ntuple:
            options.fOutputFormat = ROOT.RDF.ESnapshotOutputFormat.kRNTuple
        frame = ROOT.RDataFrame(file.entries).Define("x", f"double(rdfentry_ + {file.first})")
        for name, expression in COLUMNS.items():
            frame = frame.Define(name, expression)
        frame.Snapshot(file.tree, str(folder / file.name), list(file.columns), options)
    with ROOT.TFile.Open(str(folder / "directory.root"), "RECREATE") as opened:
        opened.mkdir("sub").cd()
        tree = ROOT.TChain("Events")
        tree.Add(str(folder / "one_0.root"))
        tree.CloneTree(-1).Write()
    sample = {"trees": ["Events"], "files": [str(folder / "several_1.root")], "metadata": {"lumi": 2.5}}
    (folder / "spec.json").write_text(json.dumps({"samples": {"data": sample}}))


@dataclass(frozen=True)
class Source:
    """A source, as code."""

    code: str
    """Body of a function of ``data``, the folder of the files, that returns a constructor's arguments."""
    defined: bool = False
    """Whether its columns have to be defined first, by the entry's number."""
    columns: tuple[str, ...] = ("x", *COLUMNS)
    metadata: bool = False
    """Whether its samples have metadata."""


def _named(stem: str, count: int) -> str:
    return f'[f"{{data}}/{stem}_{{i}}.root" for i in range({count})]'


def _chain(stem: str, count: int, then: str = "") -> str:
    made = f'chain = ROOT.TChain("Events")\nfor f in {_named(stem, count)}: chain.Add(f)'
    return f"{made}\n{then}\nreturn (chain,)"


def _in_file(file: str, returned: str) -> str:
    return f'file = ROOT.TFile.Open(f"{{data}}/{file}.root")\nkept.append(file)\nreturn {returned}'


def _spec(*samples: str, then: str = "") -> str:
    """Return code of a specification; a sample is a name, pairs of trees and files, and the luminosity."""
    lines = ["spec, lumi = ROOT.RDF.Experimental.RDatasetSpec(), 0.5"]
    for sample in samples:
        name, *pairs = sample.split()
        trees = [pair.partition("@")[0] for pair in pairs]
        files = ", ".join(f'f"{{data}}/{pair.partition("@")[2]}.root"' for pair in pairs)
        lines += [
            "meta, lumi = ROOT.RDF.Experimental.RMetaData(), lumi + 1",
            f'meta.Add("lumi", lumi); meta.Add("id", int(2 * lumi)); meta.Add("sort", "{name}")',
            f'spec.AddSample(ROOT.RDF.Experimental.RSample("{name}", {trees!r}, [{files}], meta))',
        ]
    return "\n".join([*lines, then, "return (spec,)"])


_FRIEND = """
other = ROOT.TChain("Friend")
for i in range(2): other.Add(f"{data}/friend_{i}.root")
chain.AddFriend(other, "other")
kept.append(other)
"""
_CHOSEN = """
chosen = ROOT.TEntryList("chosen", "")
for number in (3, 70, 250, 251): chosen.Enter(number, chain)
chain.SetEntryList(chosen)
kept.append(chosen)
"""
_CHOSEN_EVENTS = """
chosen = ROOT.TEventList("chosen", "")
for number in (3, 70, 250): chosen.Enter(number)
chain.SetEventList(chosen)
kept.append(chosen)
"""

SOURCES = {
    "one file": Source(f'return "Events", {_named("one", 1)}[0]'),
    "several files": Source(f'return "Events", {_named("several", 5)}'),
    "numbers": Source("return (200,)", defined=True),
    "one number": Source("return (1,)", defined=True),
    "no numbers": Source("return (0,)", defined=True),
    "pattern": Source('return "Events", f"{data}/several_[0-9].root"'),
    "uneven files": Source(f'return "Events", {_named("uneven", 5)}'),
    "one entry": Source('return "Events", f"{data}/uneven_1.root"'),
    "no entries": Source(f'return "Events", {_named("empty", 2)}'),
    "one file twice": Source(f'return "Events", {_named("one", 1)} * 2'),
    "chain": Source(_chain("several", 3)),
    "tree": Source(_in_file("one_0", '(file.Get("Events"),)')),
    "directory": Source(_in_file("directory", '(file.Get("sub/Events"),)')),
    "open file": Source(_in_file("one_0", '"Events", file')),
    "two trees": Source(
        'chain = ROOT.TChain("t1")\nfor f, t in (("a", "t1"), ("b", "t2"), ("a", "t2")):\n'
        '    chain.Add(f"{data}/several_trees_{f}.root?#{t}")\nreturn (chain,)'
    ),
    "friend": Source(_chain("one", 1, _FRIEND), columns=("x", *COLUMNS, "other.x", "other.k")),
    "ntuple": Source(f'return "Events", {_named("ntuple", 1)}[0]', columns=_NTUPLE["columns"]),
    "several ntuples": Source(f'return "Events", {_named("ntuple", 3)}', columns=_NTUPLE["columns"]),
    "holes": Source(f'return "Events", {_named("holes", 3)}', columns=("x", "k", "w")),
    "specification": Source(
        _spec("A Events@several_0 Events@several_1", "B Events@several_2", "C Events@uneven_1"), metadata=True
    ),
    "specification in JSON": Source('return (ROOT.Internal.RDF.RetrieveSpecFromJson(f"{data}/spec.json"),)'),
    "specification of trees": Source(
        _spec("C t1@several_trees_b", "A t1@several_trees_a t2@several_trees_b", "B t2@several_trees_a"),
        metadata=True,
    ),
    "global range": Source(
        _spec("A Events@several_0 Events@several_1", then="spec.WithGlobalRange((0, 100))"), metadata=True
    ),
    "global range within": Source(
        _spec("A Events@several_0 Events@several_1", then="spec.WithGlobalRange((120, 310))"), metadata=True
    ),
    "entry list": Source(_chain("several", 3, _CHOSEN)),
    "event list": Source(_chain("one", 1, _CHOSEN_EVENTS)),
    "default columns": Source(f'return "Events", {_named("several", 2)}, ["x", "w"]'),
}


def arguments(name: str, data: Path, kept: list[Any]) -> tuple[Any, ...]:
    """Make the constructor's arguments of a source.

    Parameters
    ----------
    name
        Name of the source.
    data
        The folder of the files.
    kept
        Takes what has to live as long as the frame.
    """
    body = SOURCES[name].code.strip().replace("\n", "\n    ")
    space: dict[str, Any] = {"ROOT": ROOT, "data": data, "kept": kept}
    exec(f"def make():\n    {body}", space)
    made: tuple[Any, ...] = space["make"]()
    return made


def defined(name: str, frame: Any) -> Any:
    """Define the columns of a source that has none."""
    if not SOURCES[name].defined:
        return frame
    frame = frame.Define("x", "double(rdfentry_)")
    for column, expression in COLUMNS.items():
        frame = frame.Define(column, expression)
    return frame
