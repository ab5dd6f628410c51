"""Merging cut-flow reports, where ROOT 6.40 goes wrong.

ROOT keeps a report's counts twice in its mergeable form, adds the other's counts to the ones it began
with, and leaves those as they were: of three reports merged in turn, the second is lost.
"""

from __future__ import annotations

import functools
import threading
from typing import Any

import ROOT

_CODE = r"""
#include <ROOT/RDF/RCutFlowReport.hxx>
#include <ROOT/RDF/RMergeableValue.hxx>

namespace dask_root_lambda {

using MergeableReport = ROOT::Detail::RDF::RMergeableValue<ROOT::RDF::RCutFlowReport>;

ROOT::Detail::RDF::RMergeableReport *Renewed(const MergeableReport &merged)
{
   const auto &report = merged.GetValue();
   return new ROOT::Detail::RDF::RMergeableReport(report, {report.begin(), report.end()});
}

} // namespace dask_root_lambda
"""

_declaring = threading.Lock()


def is_report(mergeable: Any) -> bool:
    """Tell whether a mergeable object is a cut-flow report's."""
    return isinstance(mergeable, _report_type())


def renewed(mergeable: Any) -> Any:
    """Return a merged report's mergeable form again, with the merged counts in both places."""
    with _declaring:
        if not hasattr(ROOT, "dask_root_lambda") or not hasattr(ROOT.dask_root_lambda, "Renewed"):
            ROOT.gInterpreter.Declare(_CODE)
            ROOT.dask_root_lambda.Renewed.__creates__ = True
    return ROOT.dask_root_lambda.Renewed(mergeable)


@functools.cache
def _report_type() -> Any:
    return ROOT.Detail.RDF.RMergeableValue["ROOT::RDF::RCutFlowReport"]
