"""Events that are almost requests: fields gone, doubled, of another type or value, bytes flipped."""

from __future__ import annotations

import copy
import random
import string
from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import strategies as st

BASE64 = string.ascii_letters + string.digits + "+/="
ODD_TEXTS = (
    "", " ", "0", "-1", "1e9", "0-0", "1-0", "0_1-1", "1_0-2", "0-1e999999999", "9" * 4000 + "-1", "nan-inf",
    "0-1-2", "../../etc/passwd", "/etc/passwd", "a//b", "\ud800", "\0", "%s%n{0}", "map", "merge", "call",
    "x" * 100_000,
)  # fmt: skip
ODD_NUMBERS = (0, -1, 1, 2**31, 2**63, -(2**64), 10**300, 0.5, -0.0, 1e308, float("nan"), float("inf"), True)

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(ODD_TEXTS)
    | st.sampled_from(ODD_NUMBERS)
)
documents = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(("op", "task", "bodies", "inline", "key", "size", "x")), inner)
    ),
    max_leaves=6,
)


@st.composite
def mutated(draw: Callable[..., Any], requests: Sequence[dict[str, Any]]) -> Any:
    """One of the requests with one to three changes; now and then, any document."""
    if draw(st.integers(0, 19)) == 0:
        return draw(documents)
    event = copy.deepcopy(draw(st.sampled_from(requests)))
    for _ in range(draw(st.integers(1, 3))):
        _change(draw, event, requests)
    return event


def _change(draw: Callable[..., Any], event: dict[str, Any], requests: Sequence[dict[str, Any]]) -> None:
    places = _places(event)
    if not places:
        return
    holder, name = draw(st.sampled_from(places))
    old = holder[name]
    change = draw(st.sampled_from(("remove", "replace", "nest", "flip", "cut", "exchange", "double")))
    if change == "remove":
        del holder[name]
    elif change == "nest":
        holder[name] = draw(st.sampled_from(([old], {"inline": old}, {name: old}, [old] * 50)))
    elif change == "exchange":
        other = draw(st.sampled_from(requests))
        holder[name] = copy.deepcopy(other.get(name, other.get("bodies")))
    elif change == "double" and isinstance(old, list):
        holder[name] = old * 2
    elif change in ("flip", "cut") and isinstance(old, str) and old:
        place = random.Random(draw(st.integers(0, 2**32))).randrange(len(old))
        holder[name] = old[:place] + (
            draw(st.sampled_from(BASE64)) + old[place + 1 :] if change == "flip" else ""
        )
    else:
        holder[name] = draw(documents)


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every member and item of a document, as its holder and its name there."""
    if not isinstance(value, (dict, list)):
        return []
    names = list(value) if isinstance(value, dict) else range(len(value))
    return [place for name in names for place in [(value, name), *_places(value[name])]]
