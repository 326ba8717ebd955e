"""A small labelled corpus, so that `configs/ner.py` runs with no network. `flaxft/demo/make.py` writes it."""

from __future__ import annotations

import pathlib

_HERE = pathlib.Path(__file__).parent

TRAIN = _HERE / "train.conll"
VALIDATION = _HERE / "validation.conll"
TEST = _HERE / "test.conll"
