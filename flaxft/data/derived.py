"""Records that were made of those of another source."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from flaxft.data.base import Records

KEPT = 4  # sources whose records are kept: a run opens each split several times
_made: dict[str, Derived] = {}  # fingerprint -> records, the last one last


@dataclasses.dataclass(eq=False)
class Derived(Records):
    """A source whose records keep the places of those that they were made of: `places` are whole ones."""

    notes: tuple[str, ...] = ()  # what is to be told of how they were made

    def where(self, index: int) -> str:
        return str(self.places[index])


def kept(fingerprint: str, make: Callable[[], Derived]) -> Derived:
    """The source of that fingerprint: made, or found made."""
    found = _made.get(fingerprint)
    if found is None:
        found = _made[fingerprint] = make()
        for old in list(_made)[:-KEPT]:
            _made.pop(old, None)
    return found
