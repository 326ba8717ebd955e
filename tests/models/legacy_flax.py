"""Ours against the last Flax BERT, FlaxBertForTokenClassification of transformers 4.57: run by hand, for it needs an environment of its own.

    LEGACY_PYTHON -m tests.models.legacy_flax theirs CHECKPOINT FOLDER    where transformers==4.57.6, flax, jax and torch are installed
    python -m tests.models.legacy_flax ours FOLDER                        where flaxft is

CHECKPOINT is a PyTorch BERT directory. The first command writes FOLDER/flax_model.msgpack and config.json as Flax users saved them, and reference.npz: a
batch of rows of mixed lengths with random labels, and the logits, loss and gradients. The second reads those weights and prints the largest differences.

Measured on MiniLM-L6-H384 (6 rows of up to 64 tokens, 296 in all, 5 labels; float32, dropout off, CPU), transformers 4.57.6 with flax 0.12.8 and jax 0.10.2
on both sides: logits differ by at most 1.4e-6 (the largest is 1.65), the loss by 0 (of 1.6325), the 103 gradients by at most 1.1e-7 (the largest is 0.06).
"""

from __future__ import annotations

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from tests.models.reference import random_batch

NUM_LABELS = 5


def theirs(checkpoint: Path, folder: Path) -> None:
    import transformers
    from transformers import FlaxBertForTokenClassification

    model = FlaxBertForTokenClassification.from_pretrained(checkpoint, from_pt=True, num_labels=NUM_LABELS)
    rng = np.random.default_rng(0)
    model.params["classifier"]["bias"] = jnp.asarray(rng.standard_normal(NUM_LABELS) * 0.1, jnp.float32)  # zero as it is initialised
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    batch = random_batch(rng, vocab_size=model.config.vocab_size, max_length=64, num_labels=NUM_LABELS, rows=6)
    positions = np.broadcast_to(np.arange(64), batch["labels"].shape)

    def loss_fn(params):
        logits = model.module.apply(
            {"params": params}, batch["input_ids"], batch["segment_ids"], batch["token_type_ids"], positions, None, deterministic=True
        ).logits
        labelled = batch["labels"] >= 0
        losses = -jnp.take_along_axis(jax.nn.log_softmax(logits), jnp.where(labelled, batch["labels"], 0)[..., None], -1)[..., 0]
        return jnp.where(labelled, losses, 0.0).sum() / labelled.sum(), logits

    (loss, logits), gradients = jax.jit(jax.value_and_grad(loss_fn, has_aux=True))(model.params)
    flat = {"/".join(key.key for key in path): leaf for path, leaf in jax.tree_util.tree_flatten_with_path(gradients)[0]}
    arrays = {f"batch:{name}": array for name, array in batch.items()} | {f"gradient:{name}": np.asarray(leaf) for name, leaf in flat.items()}
    versions = f"transformers {transformers.__version__}, jax {jax.__version__}"
    np.savez(folder / "reference.npz", logits=np.asarray(logits), loss=np.asarray(loss), versions=versions, **arrays)


def ours(folder: Path) -> None:
    from flax import nnx

    from flaxft.models.base import flatten
    from flaxft.models.hf import Pretrained
    from flaxft.ops.losses import cross_entropy

    stored = dict(np.load(folder / "reference.npz"))
    batch = {name.removeprefix("batch:"): array for name, array in stored.items() if name.startswith("batch:")}
    source = Pretrained(path=str(folder))
    loaded = source.load(source.open(), lambda encoder, rngs: encoder.head("token", NUM_LABELS, rngs=rngs), reuse_head=True, seed=0)

    def loss_fn(params):
        logits = nnx.merge(loaded.graphdef, params)(batch)
        total, weight = cross_entropy(logits, batch["labels"], ignore=-100)
        return total / weight, logits

    (loss, logits), gradients = jax.jit(jax.value_and_grad(loss_fn, has_aux=True))(loaded.params)
    found = {path.replace("encoder/", "bert/", 1).removeprefix("head/"): leaf for path, leaf in flatten(gradients).items()}
    wanted = {name.removeprefix("gradient:"): array for name, array in stored.items() if name.startswith("gradient:")}
    assert set(found) == set(wanted), set(found) ^ set(wanted)
    off = {name: float(np.abs(np.asarray(found[name]) - array).max()) for name, array in wanted.items()}
    worst = max(off, key=off.__getitem__)
    largest = max(np.abs(array).max() for array in wanted.values())
    real = batch["segment_ids"] > 0
    print(f"theirs: {stored['versions']}; ours: jax {jax.__version__}; {int(real.sum())} tokens, {len(wanted)} gradients")
    print(f"logits {np.abs(np.asarray(logits) - stored['logits'])[real].max():.1e} of at most {np.abs(stored['logits'][real]).max():.2f}")
    print(f"loss {abs(float(loss) - float(stored['loss'])):.1e} of {float(stored['loss']):.4f}")
    print(f"gradients {off[worst]:.1e} of at most {largest:.2f} (most in {worst})")


if __name__ == "__main__":
    {"theirs": theirs, "ours": ours}[sys.argv[1]](*map(Path, sys.argv[2:]))
