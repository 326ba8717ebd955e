"""Mesh sizes, the rules that split arrays over them, and arrays put there; eight devices stand in a process of their own."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from flaxft.errors import UserError
from flaxft.sharding import Mesh, infer, make_mesh, num_row_shards, put, replicated, rows
from tests import tiny

ROOT = Path(__file__).parent.parent


class Fake:
    """A mesh is only made of devices; how many there would be is all that the checks ask."""


def test_one_device():
    mesh = make_mesh(Mesh())
    assert dict(mesh.shape) == {"data": 1, "fsdp": 1, "tensor": 1}
    assert num_row_shards(mesh) == 1


@pytest.mark.parametrize("sizes", [{"data": -1, "fsdp": -1}, {"data": 0}, {"tensor": -2}, {"fsdp": 0, "data": 8}])
def test_sizes_that_are_no_sizes(sizes):
    with pytest.raises(UserError, match=r"mesh is .*; each size is at least 1, and one of them may be -1"):
        make_mesh(Mesh(**sizes), [Fake()] * 8)


@pytest.mark.parametrize("sizes", [{"data": 4}, {"data": 16}, {"fsdp": 3}, {"data": 3, "fsdp": 3}, {"data": 8, "tensor": 2}, {"fsdp": 16}])
def test_sizes_that_do_not_fit(sizes):
    with pytest.raises(UserError, match=r"mesh is .*which does not fit 8 devices; their product must be 8") as caught:
        make_mesh(Mesh(**sizes), [Fake()] * 8)
    assert str(dataclasses.asdict(Mesh(**sizes))) in str(caught.value)


def test_put_on_one_device():
    mesh = make_mesh(Mesh())
    tree = {"a": np.arange(6).reshape(2, 3), "b": {"c": np.float32(3)}}
    for shardings in (replicated(mesh), infer(tree, [("a", ("data", "tensor"))], mesh)):
        found = put(tree, shardings)
        assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(found))
        jax.tree.map(np.testing.assert_array_equal, found, tree)
    assert rows(mesh).spec == P(("data", "fsdp"))


EIGHT = """
import jax, numpy as np, optax
from jax.sharding import PartitionSpec as P
from flaxft.models.bert import ENCODER
from flaxft.optim import Optim, make_schedule, make_tx
from flaxft.sharding import Mesh, infer, make_mesh, num_row_shards, put, replicated, rows
from flaxft.train import state as states

assert len(jax.devices()) == 8

# sizes: -1 takes what is left, whichever axis it is
for sizes, expected, shards in [
    ({}, (8, 1, 1), 8),
    ({"fsdp": 2}, (4, 2, 1), 8),
    ({"data": 2, "fsdp": -1}, (2, 4, 1), 8),
    ({"data": 1, "tensor": -1}, (1, 1, 8), 1),
    ({"data": 2, "fsdp": 2, "tensor": 2}, (2, 2, 2), 4),
    ({"data": 8}, (8, 1, 1), 8),
]:
    mesh = make_mesh(Mesh(**sizes))
    assert tuple(mesh.shape.values()) == expected, (sizes, mesh.shape)
    assert num_row_shards(mesh) == shards
    assert sorted(d.id for d in mesh.devices.ravel()) == list(range(8))
assert tuple(make_mesh(Mesh(), jax.devices()[:3]).shape.values()) == (3, 1, 1)

# rules on shapes: the first that is found; an axis that does not divide its dim is left out; a rule for other dims is none
mesh = make_mesh(Mesh(data=2, fsdp=2, tensor=2))
rules = [("query/kernel$", ("fsdp", "tensor")), ("kernel$", ("tensor", "fsdp")), ("bias$", (None,)), ("one$", ("tensor",)), (".*/odd", ("data", "tensor"))]
shape = lambda *dims: jax.ShapeDtypeStruct(dims, np.float32)
tree = {"query": {"kernel": shape(4, 6), "bias": shape(4), "one": shape(4)}, "dense": {"kernel": shape(3, 4), "odd": shape(6, 5)},
        "scale": shape(4), "vector": {"kernel": shape(4)}, "list": [{"kernel": shape(2, 2)}]}
found = jax.tree.map(lambda s: tuple(s.spec), infer(tree, rules, mesh), is_leaf=lambda s: hasattr(s, "spec"))
assert found == {"query": {"kernel": ("fsdp", "tensor"), "bias": (None,), "one": ("tensor",)}, "dense": {"kernel": (None, "fsdp"), "odd": ("data", None)},
                 "scale": (), "vector": {"kernel": ()}, "list": [{"kernel": ("tensor", "fsdp")}]}, found

# the family's own rules over a whole state: the moments lie where their parameter lies, and numbers lie everywhere
rng = np.random.default_rng(0)
array = lambda *dims: rng.standard_normal(dims).astype(np.float32)
layer = {"attention": {"self": {"query": {"kernel": array(8, 8), "bias": array(8)}}}, "intermediate": {"dense": {"kernel": array(8, 16), "bias": array(16)}}}
encoder = {"embeddings": {"word_embeddings": {"embedding": array(12, 8)}}, "encoder": {"layer": {"0": layer}}}
params = {"encoder": encoder, "head": {"kernel": array(8, 3), "bias": array(3)}}
optim = Optim(learning_rate=5e-5, warmup=0.1)
state = states.create(None, put(params, replicated(mesh)), make_tx(optim, make_schedule(optim, 10)))
shardings = infer(state, ENCODER.sharding, mesh)
flat = {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_flatten_with_path(shardings)[0]}
arrays = {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_flatten_with_path(state)[0]}
own = {path.removeprefix(".params"): leaf.spec for path, leaf in flat.items() if path.startswith(".params")}
assert len(own) == 7, own
assert own["['encoder']['encoder']['layer']['0']['intermediate']['dense']['kernel']"] == P("fsdp", "tensor"), own
moments = 0
for path, leaf in flat.items():
    place = next((name for name in own if path.endswith(name)), None)
    assert leaf.spec == (own[place] if place else P()), (path, leaf.spec)
    moments += ".mu[" in path or ".nu[" in path
assert moments == 14, flat.keys()

# there and back: every device holds its part, the whole is what went in, and a step's rows are split over data and fsdp
there = put(state, shardings)
for (path, sharding), leaf in zip(flat.items(), jax.tree.leaves(there), strict=True):
    assert leaf.sharding == sharding, path
    assert leaf.addressable_shards[0].data.shape == sharding.shard_shape(leaf.shape)
jax.tree.map(np.testing.assert_array_equal, jax.device_get(there.params), params)
batch = {"input_ids": np.arange(8 * 5).reshape(8, 5), "example_weight": np.ones((8, 2), np.float32)}
split = put(batch, rows(mesh))
assert {tuple(shard.data.shape) for shard in split["input_ids"].addressable_shards} == {(2, 5)}
jax.tree.map(np.testing.assert_array_equal, jax.device_get(split), batch)
print("all eight")
"""


def test_eight_devices():
    environment = tiny.devices(8)
    done = subprocess.run([sys.executable, "-W", "error", "-c", EIGHT], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "all eight\n"
