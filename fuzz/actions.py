"""Actions that are drawn: each function returns the operation, its arguments and the scale of its numbers."""

from __future__ import annotations

from collections.abc import Callable

from fuzz.drawing import Column, Place
from fuzz.sources import ENTRIES

Drawn = tuple[str, str, float]

_EDGES = "4, np.array([-1., 5., 10., 100., 400.])"
_SHORT_AXES = ("10, 0., 100.", "7, -50., 1000.", "4, 0., 4.")
_AXES = (*_SHORT_AXES, "200, 0., 200.")
_AUTOMATIC_AXIS = "10, 0., 0."
_LOOK_UPS = (
    ("GetColumnNames", ""),
    ("GetDefinedColumnNames", ""),
    ("GetFilterNames", ""),
    ("HasColumn", '"x"'),
    ("GetColumnType", '"x"'),
)
_MODELS = {"HistoND": "THnDModel", "HistoNSparseD": "THnSparseDModel"}


def count(_: Place) -> Drawn:
    """Count the entries."""
    return "Count", "", 0.0


def report(_: Place) -> Drawn:
    """Report the cuts that have a name."""
    return "Report", "", 0.0


def number(place: Place) -> Drawn:
    """Draw an action whose result is a number."""
    operation = place.one_of(["Sum", "Mean", "StdDev", "Min", "Max"])
    column = place.column()
    # Means are divided, and merged by their weights; deviations are compared as squares.
    scale = {"Sum": _scale(column), "Mean": column.bound + 1, "StdDev": (column.bound + 1) ** 2}
    return operation, f'"{column.name}"', scale.get(operation, 0.0)


def statistics(place: Place) -> Drawn:
    """Draw moments, weighted or not."""
    column = place.scalar()
    return "Stats", f'"{column.name}"{_weight(place)}', (column.bound + 1) ** 2


def histogram(place: Place) -> Drawn:
    """Draw a histogram of one column."""
    column, axis = place.column(), place.mostly([*_AXES, _EDGES], [_AUTOMATIC_AXIS])
    return "Histo1D", f'{_model(place, axis)}, "{column.name}"{_weight(place)}', _scale(column)


def histogram_by_model(place: Place) -> Drawn:
    """Draw a histogram whose model is an object."""
    column = place.column()
    model = place.one_of(['"m", "t;x;y", 10, 0., 300.', 'ROOT.TH1D("m", "t", 10, 0., 300.)'])
    return "Histo1D", f'ROOT.RDF.TH1DModel({model}), "{column.name}"', _scale(column)


def histogram_of_several(place: Place) -> Drawn:
    """Draw a histogram of two or three columns."""
    n_axes = place.one_of([2, 3])
    columns = [place.scalar() for _ in range(n_axes)]
    axes = [place.mostly(_SHORT_AXES, [_AUTOMATIC_AXIS]) for _ in columns]
    return f"Histo{n_axes}D", f"{_model(place, *axes)}, {_names(columns)}{_weight(place)}", _scale(*columns)


def profile(place: Place) -> Drawn:
    """Draw a profile over one or two columns."""
    n_axes = place.one_of([1, 2])
    columns = [place.scalar() for _ in range(n_axes + 1)]
    axes = [place.one_of(_SHORT_AXES) for _ in range(n_axes)]
    # A bin's value and error are quotients.
    scale = ENTRIES * max(column.bound for column in columns) ** 2
    return f"Profile{n_axes}D", f"{_model(place, *axes)}, {_names(columns)}{_weight(place)}", scale


def histogram_of_many(place: Place) -> Drawn:
    """Draw a THn or a THnSparse of two columns."""
    operation, columns = place.one_of(list(_MODELS)), [place.scalar(), place.scalar()]
    model = f'ROOT.RDF.{_MODELS[operation]}("n", "", 2, [5, 4], [0., 0.], [300., 5.])'
    return operation, f"{model}, [{_names(columns)}{_weight(place)}]", _scale(*columns)


def points(place: Place) -> Drawn:
    """Draw points, in their order, with errors or without."""
    names = _names([place.scalar(), place.scalar()])
    if place.one_of([False, True]):
        return "GraphAsymmErrors", f'{names}, "w", "w", "w", "w"', 0.0
    return "Graph", names, 0.0


def arrays(place: Place) -> Drawn:
    """Draw columns as arrays, at once or when they are asked for."""
    return "AsNumpy", f"{place.columns()!r}{place.one_of(['', ', lazy=True'])}", 0.0


def display(place: Place) -> Drawn:
    """Draw a table of the first entries, of none too."""
    return "Display", f"{place.columns()!r}, {place.one_of([3, 1, 0, 20])}", 0.0


def values_of_one(place: Place) -> Drawn:
    """Draw the values of a column as a C++ collection."""
    collection = place.one_of(["", ", 'ROOT::RVec<int>'"])
    return f"Take['int'{collection}]", '"k"', 0.0


def snapshot(place: Place) -> Drawn:
    """Draw files to be written, of some columns, or those that match."""
    # Of friends in several files, local ROOT's Snapshot writes what lies in memory that is free again.
    chosen = [name for name in place.columns() if "." not in name] or ["x"]
    columns = place.one_of([repr(chosen), '"[xk]"'])
    return "Snapshot", f'"t", target({place.number}), {columns}', 0.0


def look_up(place: Place) -> Drawn:
    """Draw a question that runs nothing."""
    return (*place.one_of(_LOOK_UPS), 0.0)


def automatic_axis(place: Place) -> Drawn:
    """Draw a histogram without a model, which is refused."""
    return "Histo1D", f'"{place.column().name}"', float(ENTRIES**3)


def not_distributed(_: Place) -> Drawn:
    """Ask for the number of slots: ROOT does not distribute it, and it is refused."""
    return "GetNSlots", "", 0.0


def default_column(place: Place) -> Drawn:
    """Draw an action on the default column of a frame."""
    return place.one_of(["Sum", "Max", "Min"]), "", 0.0


def _model(place: Place, *axes: str) -> str:
    return f'("h{place.number}", "", {", ".join(axes)})'


def _names(columns: list[Column]) -> str:
    return ", ".join(f'"{column.name}"' for column in columns)


def _weight(place: Place) -> str:
    """Draw a weight, as an argument or nothing."""
    return place.one_of(["", ', "w"'])


def _scale(*columns: Column) -> float:
    """Return 0 where sums of the columns and of their squares are exact, else what they do not exceed."""
    if all(column.exact for column in columns):
        return 0.0
    return ENTRIES * max(column.bound for column in columns) ** 2


Draws = Callable[[Place], Drawn]

ACTIONS: tuple[Draws, ...] = (
    count,
    *[number] * 5,
    statistics,
    report,
    histogram,
    histogram,
    histogram_of_several,
    profile,
    histogram_by_model,
    histogram_of_many,
    points,
    arrays,
    display,
    values_of_one,
    snapshot,
    look_up,
)
SELDOM: tuple[Draws, ...] = (automatic_axis, not_distributed)
DEFAULTS: tuple[Draws, ...] = (default_column,)
"""Where the frame has default columns."""
VARIABLE = (
    "Count",
    "Sum",
    "Mean",
    "StdDev",
    "Min",
    "Max",
    "Stats",
    "Histo1D",
    "Histo2D",
    "Histo3D",
    "Profile1D",
)
"""Actions whose variations are asked for."""
