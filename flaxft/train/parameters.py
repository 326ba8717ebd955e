"""The parameters of a run as a table: how many, what share, what trains, and how they are split over the devices."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from flaxft.models.base import flatten
from flaxft.train.state import TrainState


class Group(NamedTuple):
    num: int
    num_trained: int
    splits: tuple[str, ...]  # how its arrays are split, most parameters first


def parameters(state: TrainState) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Header and rows: embeddings, layers (those that are alike in one row), head; and all of them."""
    groups = _groups(state)
    total = sum(one.num for one in groups.values())
    rows: list[tuple[str, ...]] = []
    for name, one in _collapsed(groups):
        trained = "yes" if one.num_trained == one.num else "no" if not one.num_trained else f"{one.num_trained / one.num:.0%}"
        rows.append((name, f"{one.num:,}", f"{one.num / max(total, 1):.1%}", trained, " + ".join(one.splits)))
    num_trained = sum(one.num_trained for one in groups.values())
    rows.append(("all", f"{total:,}", "100.0%", f"{num_trained / max(total, 1):.0%}" if num_trained < total else "yes", ""))
    return ("module", "parameters", "share", "trained", "sharding"), rows


def _groups(state: TrainState) -> dict[str, Group]:
    sizes: dict[str, list[int]] = {}
    splits: dict[str, dict[str, int]] = {}
    for is_trained, tree in ((True, state.params), (False, state.frozen)):
        for path, leaf in flatten(tree).items():
            name = _module(path)
            num = math.prod(leaf.shape)
            counted = sizes.setdefault(name, [0, 0])
            counted[0] += num
            counted[1] += num * is_trained
            split = _split(leaf)
            splits.setdefault(name, {})[split] = splits.get(name, {}).get(split, 0) + num
    largest_first = {name: tuple(sorted(found, key=lambda split: -found[split])) for name, found in splits.items()}
    return {name: Group(num, num_trained, largest_first[name]) for name, (num, num_trained) in sizes.items()}


def _module(path: str) -> str:
    """"encoder/layer 3" of "encoder/encoder/layer/3/output/kernel": up to a number, or else the first two parts."""
    numbered = re.match(r"(.*?)/(\d+)/", path)
    if numbered:
        return f"{numbered[1].rpartition('/')[2]} {numbered[2]}"
    return "/".join(path.split("/")[:-1][:2]) or path


def _split(leaf: Any) -> str:
    spec = getattr(getattr(leaf, "sharding", None), "spec", ())
    axes = [axis for axis in spec if axis]
    return ", ".join(map(str, axes)) if axes else "whole"


def _collapsed(groups: Mapping[str, Group]) -> list[tuple[str, Group]]:
    """Numbered modules that follow one another and are alike, as one: "layer 0 to 5"."""
    rows = []
    for (kind, _), run in itertools.groupby(_in_order(groups), key=lambda item: (item[0].rpartition(" ")[0], item[1])):
        found = list(run)
        if not kind or len(found) == 1:
            rows += found
            continue
        first, last = found[0][0], found[-1][0].rpartition(" ")[2]
        group = found[0][1]
        rows.append((f"{first} to {last}, {len(found)} of {group.num:,}", Group(len(found) * group.num, len(found) * group.num_trained, group.splits)))
    return rows


def _in_order(groups: Mapping[str, Group]) -> list[tuple[str, Group]]:
    """Embeddings, layers by number, the rest of the encoder, and the head last."""

    def rank(item: tuple[str, Group]) -> tuple[Any, ...]:
        name = item[0]
        kind, _, number = name.rpartition(" ")
        place = 0 if "embedding" in name else 1 if kind else 3 if name.startswith("head") else 2
        return place, kind, int(number) if kind else 0

    return sorted(groups.items(), key=rank)
