"""The squares of weights that profiles keep, for their errors, where ROOT 6.40 loses them.

A profile keeps them from the first weight on that is not 1. ROOT merges two profiles as the first one is: of
one without squares it drops those of the other, or it adds what is not there.
"""

from __future__ import annotations

from typing import Any

from lambda_runtime.declaring import declared

_CODE = r"""
#include <ROOT/RDF/RMergeableValue.hxx>
#include <TProfile.h>
#include <TProfile2D.h>
#include <TProfile3D.h>

namespace dask_root_lambda {
namespace profiles {

using namespace ROOT::Detail::RDF;

struct Opened : RMergeableVariationsBase {
   static auto &Values(RMergeableVariationsBase &variations) { return variations.*(&Opened::fValues); }
};

template <typename Profile>
void KeepIn(RMergeableValueBase &value, RMergeableValueBase &increment)
{
   auto *one = dynamic_cast<RMergeableValue<Profile> *>(&value);
   auto *other = dynamic_cast<RMergeableValue<Profile> *>(&increment);
   if (!one || !other)
      return;
   auto &first = const_cast<Profile &>(one->GetValue());
   auto &second = const_cast<Profile &>(other->GetValue());
   if (first.GetBinSumw2()->fN && !second.GetBinSumw2()->fN)
      second.Sumw2();
   if (second.GetBinSumw2()->fN && !first.GetBinSumw2()->fN)
      first.Sumw2();
}

void KeepSquares(RMergeableValueBase &value, RMergeableValueBase &increment)
{
   KeepIn<TProfile>(value, increment);
   KeepIn<TProfile2D>(value, increment);
   KeepIn<TProfile3D>(value, increment);
   auto *variations = dynamic_cast<RMergeableVariationsBase *>(&value);
   auto *increments = dynamic_cast<RMergeableVariationsBase *>(&increment);
   if (!variations || !increments)
      return;
   for (std::size_t i = 0; i < Opened::Values(*variations).size(); ++i)
      KeepSquares(*Opened::Values(*variations)[i], *Opened::Values(*increments)[i]);
}

} // namespace profiles
} // namespace dask_root_lambda
"""


def keep_squares(value: Any, increment: Any) -> None:
    """Let two mergeable objects both have the squares of weights, if one of them does and they are profiles.

    Parameters
    ----------
    value, increment
        Mergeable objects of one action, or of its variations.
    """
    # By name: the class templates of all profiles would have to be compiled to be asked.
    if "TProfile" in getattr(type(value), "__cpp_name__", ""):
        declared(_CODE).profiles.KeepSquares(value, increment)
