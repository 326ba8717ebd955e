"""The table of parameters: every parameter once, layers that are alike in one row, what is split and what trains."""

from __future__ import annotations

import jax
import numpy as np
from flax import nnx
from jax.sharding import AbstractMesh

from flaxft.sharding import infer
from flaxft.train.parameters import parameters
from flaxft.train.state import TrainState


def state(*, frozen: bool = False, fsdp: int = 1) -> TrainState:
    layer = {"output": {"kernel": np.zeros((4, 8), np.float32), "bias": np.zeros(8, np.float32)}}
    larger = {"output": {"kernel": np.zeros((4, 16), np.float32), "bias": np.zeros(8, np.float32)}}
    encoder = {"embeddings": {"word": {"embedding": np.zeros((10, 4), np.float32)}}, "encoder": {"layer": {str(i): layer for i in range(11)} | {"11": larger}}}
    params = {"encoder": encoder, "head": {"classifier": {"kernel": np.zeros((4, 3), np.float32)}}}
    shardings = infer(params, [("layer/.*kernel", (None, "fsdp"))], AbstractMesh((1, fsdp, 1), ("data", "fsdp", "tensor")))
    placed = jax.tree.map(lambda array, sharding: jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=sharding), params, shardings)
    trained, rest = ({"head": placed["head"]}, {"encoder": placed["encoder"]}) if frozen else (placed, {})
    zero = np.zeros((), np.int32)
    return TrainState(step=zero, params=trained, frozen=rest, opt_state=(), num_nonfinite=zero, graphdef=nnx.graphdef(nnx.Dict()))


def test_rows():
    header, rows = parameters(state())
    assert header == ("module", "parameters", "share", "trained", "sharding")
    assert rows == [
        ("embeddings", "40", "7.1%", "yes", "whole"),
        ("layer 0 to 10", "440", "78.0%", "yes", "whole"),
        ("layer 11", "72", "12.8%", "yes", "whole"),
        ("head/classifier", "12", "2.1%", "yes", "whole"),
        ("all", "564", "100.0%", "yes", ""),
    ]  # fmt: skip


def test_what_is_frozen_does_not_train():
    _, rows = parameters(state(frozen=True))
    assert [row[3] for row in rows] == ["no", "no", "no", "yes", "2%"]


def test_what_is_split_is_said():
    _, rows = parameters(state(fsdp=2))
    assert [row[4] for row in rows] == ["whole", "fsdp", "fsdp", "whole", ""]
