"""Merging two partial results of one action, where ROOT 6.40 goes wrong.

Cut-flow reports: ROOT keeps the counts twice in the mergeable form, adds the other's counts to the ones it
began with, and leaves those as they were: of three reports merged in turn, the second is lost.

``Mean`` and ``StdDev``: ROOT divides by the number of values that both sides have seen, 0 by 0 where a cut
keeps nothing in either; and a range that has seen nothing has no mean for the other side to differ from.
"""

from __future__ import annotations

import functools
from typing import Any

import ROOT
from ROOT._distrdf.Backends import Utils

from dask_root_lambda.protocol.intervals import union
from dask_root_lambda.protocol.task import PartialResult
from lambda_runtime import profiles
from lambda_runtime.arrays import Arrays
from lambda_runtime.declaring import declared
from lambda_runtime.displays import Table
from lambda_runtime.snapshots import Written

_CODE = r"""
#include <ROOT/RDF/RCutFlowReport.hxx>
#include <ROOT/RDF/RMergeableValue.hxx>
#include <TClass.h>
#include <memory>
#include <vector>

namespace dask_root_lambda {

using namespace ROOT::Detail::RDF;
using Number = RMergeableValue<double>;
using Report = RMergeableValue<ROOT::RDF::RCutFlowReport>;
using Variations = RMergeableVariations<double>;

template <typename Moment>
bool HasSeenNothing(const RMergeableValueBase &value)
{
   const auto *moment = dynamic_cast<const Moment *>(&value);
   if (!moment)
      return false;
   // The number of values has no getter. The dictionary, by which the class is written, knows where it is.
   static const auto offset = TClass::GetClass<Moment>()->GetDataMemberOffset("fCounts");
   return *reinterpret_cast<const ULong64_t *>(reinterpret_cast<const char *>(moment) + offset) == 0;
}

bool IsEmpty(const RMergeableValueBase &value)
{
   return HasSeenNothing<RMergeableMean>(value) || HasSeenNothing<RMergeableStdDev>(value);
}

struct Opened : RMergeableVariationsBase {
   static auto &Values(RMergeableVariationsBase &variations) { return variations.*(&Opened::fValues); }
};

void MergeVariations(Variations &merged, Variations &increment)
{
   auto &values = Opened::Values(merged);
   auto &increments = Opened::Values(increment);
   for (std::size_t i = 0; i < values.size(); ++i) {
      if (IsEmpty(*increments[i]))
         continue;
      if (IsEmpty(*values[i]))
         std::swap(values[i], increments[i]);
      else
         MergeValues(static_cast<Number &>(*values[i]), static_cast<const Number &>(*increments[i]));
   }
}

RMergeableReport *Renewed(const Report &merged)
{
   const auto &report = merged.GetValue();
   return new RMergeableReport(report, {report.begin(), report.end()});
}

} // namespace dask_root_lambda
"""


def merged(value: Any, increment: Any) -> Any:
    """Merge two mergeable objects of one action.

    Parameters
    ----------
    value, increment
        Both were unpickled for this: the result is one of them, changed, or a new object.
    """
    if isinstance(value, Arrays | Table | Written):
        value.Merge(increment)
        return value
    if isinstance(value, _type("RMergeableVariations<double>")):
        _declared().MergeVariations(value, increment)
        return value
    if isinstance(value, _type("RMergeableValue<double>")):
        if _declared().IsEmpty(increment):
            return value
        if _declared().IsEmpty(value):
            return increment
    profiles.keep_squares(value, increment)
    Utils.merge_values(value, increment)
    if isinstance(value, _type("RMergeableValue<ROOT::RDF::RCutFlowReport>")):
        return _declared().Renewed(value)
    return value


def united(result: PartialResult, other: PartialResult) -> PartialResult:
    """Merge a partial result into another one, whose values change: both were unpickled for this.

    Raises
    ------
    IncompleteResultError
        Something would count twice.
    """
    if result.values is None or other.values is None:
        values = other.values if result.values is None else result.values
    else:
        values = [merged(*pair) for pair in zip(result.values, other.values, strict=True)]
    return PartialResult(
        values=values,
        intervals=union((*result.intervals, *other.intervals)),
        processed=result.processed + other.processed,
        entries_by_file=result.entries_by_file | other.entries_by_file,
        skipped=(*result.skipped, *other.skipped),
    )


@functools.cache
def _type(name: str) -> Any:
    return getattr(ROOT.Detail.RDF, name)


@functools.cache
def _declared() -> Any:
    namespace = declared(_CODE)
    namespace.Renewed.__creates__ = True
    return namespace
