"""The table of ``Display``: the first entries that pass, in the order of the data set, of all ranges.

ROOT's object can be neither written nor merged. Its table travels, and the object is made of it again.
"""

from __future__ import annotations

from typing import Any

import ROOT

from lambda_runtime.declaring import declared

_CODE = r"""
#include <ROOT/RDF/RDisplay.hxx>
#include <algorithm>
#include <string>
#include <vector>

namespace dask_root_lambda {
struct Opened;
}

// The class is a friend of its helper's, whatever that is made for.
template <>
class ROOT::Internal::RDF::DisplayHelper<dask_root_lambda::Opened> {
public:
   using Display = ROOT::RDF::RDisplay;
   using Element = ROOT::Internal::RDF::RDisplayElement;

   // The rows below the names of the columns; the last is the next to be filled.
   static std::size_t Rows(const Display &display) { return display.fCurrentRow - 1; }
   static std::size_t Columns(const Display &display) { return display.fNColumns; }
   static std::string Text(const Display &display, std::size_t row, std::size_t column)
   {
      return display.fTable[row][column].GetRepresentation();
   }
   static int Kind(const Display &display, std::size_t row, std::size_t column)
   {
      const auto &element = display.fTable[row][column];
      return element.IsDot() ? 2 : element.IsIgnore() ? 1 : 0;
   }
   static void Add(Display &display, const std::vector<std::string> &texts, const std::vector<int> &kinds)
   {
      auto &row = display.fTable.back();
      for (std::size_t i = 0; i < texts.size(); ++i) {
         row[i] = Element(texts[i]);
         if (kinds[i] == 1)
            row[i].SetIgnore();
         if (kinds[i] == 2)
            row[i].SetDots();
         const std::size_t width = std::max(texts[i].size(), std::size_t(kinds[i] == 2 ? 3 : 0));
         display.fWidths[i] = std::max<std::size_t>(display.fWidths[i], width);
      }
      display.fTable.emplace_back(display.fNColumns);
      display.fCurrentRow = display.fTable.size() - 1;
      display.fNextRow = display.fCurrentRow + 1;
   }
};

namespace dask_root_lambda {
using DisplayTable = ROOT::Internal::RDF::DisplayHelper<Opened>;
} // namespace dask_root_lambda
"""

Row = list[tuple[str, int]]
"""Text of each column, and how ROOT prints it: 0 for as it is, 1 for not at all, 2 for dots."""


class Table:
    """The first entries of some ranges; a mergeable object, as DistRDF calls it.

    Parameters
    ----------
    display
        ROOT's object of one range.
    n_entries, n_elements
        Entries, and elements of a collection, that are shown at most.
    """

    def __init__(self, display: Any, n_entries: int, n_elements: int) -> None:
        opened = declared(_CODE).DisplayTable
        columns = range(opened.Columns(display))
        rows = range(opened.Rows(display) + 1)
        self.n_entries, self.n_elements = n_entries, n_elements
        self.names, *self.rows = [
            [(str(opened.Text(display, row, each)), int(opened.Kind(display, row, each))) for each in columns]
            for row in rows
        ]

    @property
    def is_full(self) -> bool:
        """Whether no entry of later ranges is shown."""
        return len(self._beginnings()) >= self.n_entries

    def Merge(self, other: Table) -> None:  # noqa: N802  (DistRDF's name)
        """Append the entries of the ranges that follow, as far as they are shown."""
        self.rows += other.rows
        self.rows = self.rows[
            : (self._beginnings() + [len(self.rows)] * (self.n_entries + 1))[self.n_entries]
        ]

    def GetValue(self) -> Any:  # noqa: N802  (DistRDF's name)
        """Return ROOT's object."""
        opened = declared(_CODE).DisplayTable
        display = ROOT.RDF.RDisplay([name for name, _ in self.names], [], self.n_elements)
        for row in self.rows:
            opened.Add(display, [text for text, _ in row], [kind for _, kind in row])
        return display

    def _beginnings(self) -> list[int]:
        """Return the rows with which entries begin: they have its number; a collection takes several."""
        return [place for place, row in enumerate(self.rows) if row[0][0]]
