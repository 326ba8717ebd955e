"""The forward pass as one StableHLO program for CPU, GPU and TPU, with its weights beside it: where it runs, jax is needed and flaxft is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flaxft import files
from flaxft.data.tokenize import save_tokenizer
from flaxft.export import reference
from flaxft.export.base import Run, require
from flaxft.export.reference import INPUTS, Inputs
from flaxft.models.base import flatten, unflatten

PLATFORMS = ("cpu", "cuda", "tpu")
BOUND = 1e-5  # x max(1, largest logit of the example)
PROGRAM, WEIGHTS, LOADER = "model.stablehlo", "weights.npz", "load.py"

# Copied into the export; it must not know flaxft. np.load reads no pickle unless asked to.
SCRIPT = '''"""from load import logits; it needs `pip install jax flatbuffers`, and nothing else.

logits(input_ids, attention_mask, token_type_ids): integer arrays (batch, length), any batch and any length up to {max_length}; 1 in attention_mask is text.
It returns {returns}.
"""

from pathlib import Path

import jax
import numpy as np
from jax import export

HERE = Path(__file__).parent
weights = jax.device_put(dict(np.load(HERE / "{weights}")))
program = jax.jit(export.deserialize((HERE / "{program}").read_bytes()).call)


def logits(input_ids, attention_mask, token_type_ids):
    return program(weights, *(np.asarray(given, np.int32) for given in (input_ids, attention_mask, token_type_ids)))
'''
RETURNS = {
    "token": "(batch, length, labels)",
    "sequence": "(batch, labels)",
    "mean_sequence": "(batch, labels)",
    "choice": "(batch,): a score for each text",
    "span": "(batch, length, 2): a score for each start and end",
    "mlm": "(batch, length, vocabulary)",
    "embedding": "(batch, length, size): hidden states, to be pooled over the text's tokens",
}


def write(run: Run, folder: Path) -> list[str]:
    """Fills `folder`; returns lines that tell of it. Raises UserError."""
    require("stablehlo", "stablehlo", "flatbuffers")
    from jax import export

    predictor = run.predictor
    logits = reference.forward(predictor)
    weights = {path: np.asarray(leaf, np.float32) for path, leaf in flatten(predictor.params).items()}

    def program(weights: dict[str, Any], *given: Any) -> Any:
        return logits(unflatten(weights), *given)

    shape = export.symbolic_shape("batch, length")
    abstract = [jax.ShapeDtypeStruct(shape, jnp.int32)] * len(INPUTS)
    like = {path: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for path, leaf in weights.items()}
    exported = export.export(jax.jit(program), platforms=PLATFORMS)(like, *abstract)
    (folder / PROGRAM).write_bytes(exported.serialize())
    with (folder / WEIGHTS).open("wb") as stream:
        np.savez(stream, **weights)  # type: ignore[arg-type]  # numpy's stub takes the names for its options
    text = SCRIPT.format(max_length=predictor.encoder.max_length, returns=RETURNS[predictor.task.kind], weights=WEIGHTS, program=PROGRAM)
    (folder / LOADER).write_text(text, encoding="utf-8")
    save_tokenizer(predictor.tokenizer, predictor.model, folder)
    files.write_json(folder / "labels.json", list(predictor.task.labels))
    report = _parity(run, folder)
    files.write_json(folder / "parity.json", report)
    return [reference.sentence(report), f"for {', '.join(PLATFORMS)}; {LOADER} runs it"]


def _parity(run: Run, folder: Path) -> dict[str, Any]:
    """The program as it was written, against ours, on this machine's device."""
    from jax import export

    predictor = run.predictor
    program = jax.jit(export.deserialize((folder / PROGRAM).read_bytes()).call)  # type: ignore[arg-type]  # a stub that asks for a bytearray
    with np.load(folder / WEIGHTS) as stored:
        weights = jax.device_put(dict(stored))

    def theirs(given: Inputs) -> np.ndarray:
        return np.asarray(program(weights, *(given[name] for name in INPUTS)))

    found = reference.examples(predictor, run.workdir)
    difference = reference.compare(found.tokens, reference.logits_of(predictor, predictor.params), theirs, kind=predictor.task.kind)
    return reference.report(found, difference, reader=f"the exported program on {jax.devices()[0].platform}", bound=BOUND)
