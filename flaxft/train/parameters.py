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
    axes: tuple[str, ...]  # mesh axes that some of its arrays are split over


def parameters(state: TrainState) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Header and rows: embeddings, layers (those that are alike in one row), head; and all of them."""
    groups = _groups(state)
    total = sum(one.num for one in groups.values())
    rows: list[tuple[str, ...]] = []
    for name, one in _collapsed(groups):
        trained = "yes" if one.num_trained == one.num else "no" if not one.num_trained else f"{one.num_trained / one.num:.0%}"
        rows.append((name, f"{one.num:,}", f"{one.num / max(total, 1):.1%}", trained, ", ".join(one.axes) or "whole"))
    num_trained = sum(one.num_trained for one in groups.values())
    rows.append(("all", f"{total:,}", "100.0%", f"{num_trained / max(total, 1):.0%}" if num_trained < total else "yes", ""))
    return ("module", "parameters", "share", "trained", "sharding"), rows


def _groups(state: TrainState) -> dict[str, Group]:
    sizes: dict[str, list[int]] = {}
    axes: dict[str, set[str]] = {}
    for is_trained, tree in ((True, state.params), (False, state.frozen)):
        for path, leaf in flatten(tree).items():
            name = _module(path)
            num = math.prod(leaf.shape)
            counted = sizes.setdefault(name, [0, 0])
            counted[0] += num
            counted[1] += num * is_trained
            axes.setdefault(name, set()).update(_axes(leaf))
    return {name: Group(num, num_trained, tuple(sorted(axes[name]))) for name, (num, num_trained) in sizes.items()}


def _module(path: str) -> str:
    """"layer 3" of "encoder/encoder/layer/3/output/kernel"; "embeddings" of the encoder's; "head/classifier"."""
    numbered = re.match(r"(.*?)/(\d+)/", path)
    if numbered:
        return f"{numbered[1].rpartition('/')[2]} {numbered[2]}"
    return "/".join(path.split("/")[:-1][:2]).removeprefix("encoder/") or path


def _axes(leaf: Any) -> set[str]:
    """The mesh axes of more than one device that an array is split over."""
    sharding = leaf.sharding
    return {axis for axis in getattr(sharding, "spec", ()) if axis and sharding.mesh.shape[axis] > 1}


def _collapsed(groups: Mapping[str, Group]) -> list[tuple[str, Group]]:
    """Numbered modules that follow one another and are alike, as one: "layer 0 to 5"."""
    rows = []
    for _, run in itertools.groupby(_in_order(groups), key=lambda item: (item[0].rpartition(" ")[0] or item[0], item[1])):
        found = list(run)
        if len(found) == 1:
            rows += found
            continue
        first, last, group = found[0][0], found[-1][0].rpartition(" ")[2], found[0][1]
        rows.append((f"{first} to {last}", Group(len(found) * group.num, len(found) * group.num_trained, group.axes)))
    return rows


def _in_order(groups: Mapping[str, Group]) -> list[tuple[str, Group]]:
    """Embeddings, layers by number, the rest of the encoder, and the head last."""

    def rank(item: tuple[str, Group]) -> tuple[Any, ...]:
        name = item[0]
        kind, _, number = name.rpartition(" ")
        place = 0 if "embedding" in name else 1 if kind else 3 if name.startswith("head") else 2
        return place, kind, int(number) if kind else 0

    return sorted(groups.items(), key=rank)
