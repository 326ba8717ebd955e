"""A small labelled corpus and an untrained BERT encoder, so that `configs/ner.py` runs with no network. `flaxft/demo/make.py` writes both."""

from __future__ import annotations

import pathlib

_HERE = pathlib.Path(__file__).parent

TRAIN = _HERE / "train.conll"
VALIDATION = _HERE / "validation.conll"
TEST = _HERE / "test.conll"
ENCODER = _HERE / "encoder"
