"""Transformations that are drawn: each function returns the operation, its arguments and the new node."""

from __future__ import annotations

from dataclasses import replace

from fuzz.drawing import Column, Node, Place
from fuzz.sources import ENTRIES, SOURCES

Drawn = tuple[str, str, Node]

_CUTS = (
    "x < 10",
    "x >= 0",
    "x < 0",
    "x > 250",
    "x == 3",
    "k == 1",
    "int(x) / 50 % 2 == 0",
    "x == 1 || x == 299",
    "x > 5 && x < 8",
    "rdfentry_ < 10",
    "tdfentry_ % 2 == 0",
)
_OF_SAMPLES = (
    'rdfsampleinfo_.Contains("_1.root") ? 1. : 0.25',
    'rdfsampleinfo_.Contains("fuzz") ? 1. : 0.25',
    'rdfsampleinfo_.AsString() == "" ? 1. : 0.25',
    "double(rdfsampleinfo_.NEntries())",
    "double(rdfsampleinfo_.EntryRange().first)",
)
_OF_METADATA = (
    'rdfsampleinfo_.GetD("lumi")',
    'rdfsampleinfo_.GetSampleName() == "A" ? 1. : 0.25',
    'double(rdfsampleinfo_.GetI("id", 7))',
    'rdfsampleinfo_.GetS("sort", "none") == "B" ? 1. : 0.25',
)
_VARIATIONS = (
    '"x", "ROOT::RVecD{x - 290, x + 5}", 2',
    '"x", "ROOT::RVecD{x - 4, x + 4}", ["down", "up"]',
    '"x", "ROOT::RVecD{x - 1000, x, x + 1}", 3, "third_NUMBER"',
    '["x", "w"], "ROOT::RVec<ROOT::RVecD>{{x + 2, x}, {w, w + 1}}", 2, "both_NUMBER"',
)


def cut(place: Place) -> Drawn:
    """Draw a cut, with a name or without."""
    expression = place.one_of(_CUTS)
    name = place.one_of(["", f', "cut {place.number}"'])
    return "Filter", f'"{expression}"{name}', place.node


def cut_by_size(place: Place) -> Drawn:
    """Draw a cut on the size of a vector, if there is one."""
    vectors = [column.name for column in place.node.columns if column.vector]
    return "Filter", f'"{place.one_of(vectors)}.size() > 1"' if vectors else '"x > 20"', place.node


def definition(place: Place) -> Drawn:
    """Draw a column of another type, range or shape."""
    column, name = place.scalar(), f"d{place.number}"
    named = replace(column, name=name)
    expression, made = place.one_of(
        [
            ("double(rdfentry_)", Column(name, ENTRIES)),
            (f"{column.name} * 2", replace(named, bound=2 * column.bound)),
            (f"double({column.name}) - x", replace(named, bound=2 * ENTRIES)),
            ("double(rdfslot_)", Column(name)),
            (f"ROOT::RVecD(k, {column.name})", replace(named, vector=True)),
            (f"{column.name} > 3", Column(name)),
            (f"(unsigned char)({column.name})", Column(name, 256)),
        ]
    )
    return "Define", f'"{name}", "{expression}"', place.node.with_column(made)


def redefinition(place: Place) -> Drawn:
    """Redefine x."""
    return "Redefine", f'"x", "x + {place.one_of([4, 16])}"', place.node


def alias(place: Place) -> Drawn:
    """Draw another name of a column."""
    column, name = place.column(), f"a{place.number}"
    return "Alias", f'"{name}", "{column.name}"', place.node.with_column(replace(column, name=name))


def definition_by_sample(place: Place) -> Drawn:
    """Draw a column that is made of what is known of the sample."""
    expression = place.one_of(_OF_METADATA + _OF_SAMPLES if SOURCES[place.source].metadata else _OF_SAMPLES)
    name = f"s{place.number}"
    return "DefinePerSample", f"\"{name}\", '{expression}'", place.node.with_column(Column(name, ENTRIES))


def variation(place: Place) -> Drawn:
    """Draw variations of one column, or of two together."""
    arguments = place.one_of(_VARIATIONS).replace("NUMBER", str(place.number))
    return "Vary", arguments, replace(place.node, varied=True)


def missing_values(place: Place) -> Drawn:
    """Draw what is done where a file has no w."""
    operations = {"DefaultValueFor": '"w", 8.', "FilterAvailable": '"w"', "FilterMissing": '"w"'}
    operation = place.one_of(list(operations))
    return operation, operations[operation], place.node


def first_entries(place: Place) -> Drawn:
    """Draw entries by their numbers."""
    return "Range", place.one_of(["10", "3, 150", "290, 0", "5, 400, 7", "0, 0, 3"]), place.node


TRANSFORMATIONS = (
    cut,
    cut,
    definition,
    definition,
    variation,
    definition_by_sample,
    alias,
    redefinition,
    cut_by_size,
    missing_values,
    first_entries,
)
