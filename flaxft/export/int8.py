"""The ONNX graph with weights of 8 bits: a quarter of the size, and what that costs in score is measured before it is handed out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from flaxft import files
from flaxft.data.base import Batch
from flaxft.errors import UserError
from flaxft.export import onnx, reference
from flaxft.export.base import Run, require
from flaxft.export.onnx import GRAPH
from flaxft.models.base import EncoderOutput
from flaxft.predict import Predictor

REPORT = "int8.json"


def write(run: Run, folder: Path) -> list[str]:
    """Fills `folder`; returns lines that tell of it: the score of each, their difference, the ratio of sizes. Raises UserError."""
    require("int8", "onnx", "torch", "onnx", "onnxscript", "onnxruntime")
    from onnxruntime.quantization import QuantType, quantize_dynamic

    predictor, kind = run.predictor, run.predictor.task.kind
    exact = folder / "float.onnx"
    onnx.make_graph(predictor, folder)
    (folder / GRAPH).rename(exact)
    with onnx.quiet():
        # activations are quantised as they come, by their own range: that needs no calibration data
        quantize_dynamic(exact, folder / GRAPH, weight_type=QuantType.QInt8)
    sizes = {"float32": exact.stat().st_size, "int8": (folder / GRAPH).stat().st_size}
    found = onnx.checked_examples(run)
    checked = onnx.check(predictor, found, exact, bound=onnx.BOUND)
    moved = reference.compare(found.tokens, onnx.logits_of(exact, kind)[0], onnx.logits_of(folder / GRAPH, kind)[0], kind=kind)
    scores = _scores(predictor, exact, folder / GRAPH)
    exact.unlink()
    report: dict[str, Any] = {
        "sizes": sizes,
        "ratio": sizes["float32"] / sizes["int8"],
        "float_graph": checked,
        "int8_moves_logits_by": moved.largest,
        "scores": scores,
    }
    files.write_json(folder / REPORT, report)
    return [f"the graph in float32: {reference.sentence(checked)}", _sentence(report)]


def _scores(predictor: Predictor, exact: Path, rounded: Path) -> dict[str, Any] | None:
    """Of both graphs on the validation split, else on test; None where neither is there."""
    task = predictor.task
    for split in ("validation", "test"):
        if split not in task.splits():
            continue
        try:
            before, records = predictor.evaluate_outputs(split, _outputs(predictor, exact))
        except UserError:
            continue
        after, _ = predictor.evaluate_outputs(split, _outputs(predictor, rounded))
        name = task.main_metric.removeprefix("-")
        float_score, int8_score = before.metrics[name], after.metrics[name]
        return {
            "split": split,
            "data": Path(task.splits()[split]).name,
            "num_records": len(records),
            "metric": name,
            "float32": float_score,
            "int8": int8_score,
            "difference": int8_score - float_score,
            "all": {key: [before.metrics[key], after.metrics[key]] for key in before.metrics if "/" not in key},
        }
    return None


def _sentence(report: dict[str, Any]) -> str:
    scores, size = report["scores"], f"{report['sizes']['int8'] / 1e6:.1f} MB, {report['ratio']:.2f} times smaller"
    if scores is None:
        return f"{size}; warning: what it costs is NOT measured, because no validation or test split is there (--config.task.validation=FILE names one)"
    return (
        f"{size}; {scores['metric']} on {scores['num_records']} records of {scores['data']}: float32 {scores['float32']:.4f}, int8 {scores['int8']:.4f},"
        f" difference {scores['difference']:+.4f}"
    )


def _outputs(predictor: Predictor, graph: Path) -> Callable[[Batch], Any]:
    """A batch with one example a row -> what the task's own head would give for it, from the graph's outputs."""
    task = predictor.task
    logits, _ = onnx.logits_of(graph, task.kind)
    head: Any = task.head(predictor.encoder, rngs=nnx.Rngs(0)) if task.kind == "embedding" else None
    form = jax.eval_shape(lambda params, batch: nnx.merge(predictor.graphdef, params)(batch), predictor.params, _one(predictor)) if task.kind == "mlm" else None

    def outputs(batch: Batch) -> Any:
        mask = np.array(batch["segment_ids"])
        mask[mask.sum(1) == 0, 0] = 1  # a row of nothing has no softmax
        given = {"input_ids": np.asarray(batch["input_ids"]), "attention_mask": mask, "token_type_ids": np.asarray(batch["token_type_ids"])}
        found = jnp.asarray(logits(given))
        if task.kind in reference.PER_TEXT:
            return found[:, None]
        if head is not None:
            return head(EncoderOutput(found, jnp.zeros((0, found.shape[-1]))), batch)
        if form is not None:  # a masked language model's outputs say where they stand; here that is everywhere
            return form._replace(logits=found, positions=jnp.broadcast_to(jnp.arange(found.shape[1]), found.shape[:2]))
        return found

    return outputs


def _one(predictor: Predictor) -> Batch:
    """A batch of one empty row, for the form of the outputs alone."""
    from flaxft.data.packing import Shape
    from flaxft.data.pipeline import empty_batch

    return empty_batch(predictor.task.spec(), Shape(num_rows=1, row_length=16, num_slots=1))
