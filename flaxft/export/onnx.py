"""An ONNX graph for any batch size and length, as the exporter of PyTorch writes it from the exported directory, and as onnxruntime runs it."""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from flaxft import files
from flaxft.data.tokenize import save_tokenizer
from flaxft.export import reference
from flaxft.export.base import Run, require
from flaxft.export.reference import INPUTS, Examples, Inputs, Logits
from flaxft.models import hf
from flaxft.predict import Predictor

BOUND = 1e-4  # x max(1, largest logit of the example): onnxruntime fuses and reorders more than XLA and PyTorch do
GRAPH = "model.onnx"
OPSET = 18
CAP = 1_900_000_000  # bytes of weights: protobuf holds 2 GB, and what is larger goes into a file beside the graph
SIZES = (1, 2, 5, 8)  # of the batches that are checked, each as long as its longest text
NUM_CHECKED = 128
MEAN = "mean_sequence"  # the kind of head that no class of transformers has
OUTPUTS = {"span": ("start_logits", "end_logits"), "embedding": ("last_hidden_state",)}  # as transformers names them; logits elsewhere


def write(run: Run, folder: Path) -> list[str]:
    """Fills `folder`; returns lines that tell of it. Raises UserError."""
    require("onnx", "onnx", "torch", "onnx", "onnxscript", "onnxruntime")
    make_graph(run.predictor, folder)
    found = checked_examples(run)
    report = check(run.predictor, found, folder / GRAPH, bound=BOUND)
    files.write_json(folder / "parity.json", report)
    return [reference.sentence(report), f"batch and length are free; {len(report['shapes'])} shapes were run"]


def make_graph(predictor: Predictor, folder: Path) -> None:
    """Writes the graph, config.json and the tokenizer."""
    import torch

    kind = predictor.task.kind
    with tempfile.TemporaryDirectory() as temporary, quiet():
        model = _mean_classifier(predictor, Path(temporary)) if kind == MEAN else _saved(predictor, Path(temporary))
        for file in Path(temporary).iterdir():
            if file.suffix == ".json":
                (folder / file.name).write_bytes(file.read_bytes())
        names = OUTPUTS.get(kind, ("logits",))

        class Named(torch.nn.Module):
            """Positional arguments and a tuple, which is what the exporter keeps the order of."""

            def __init__(self) -> None:
                super().__init__()
                self.model = model

            def forward(self, *given: Any) -> Any:
                outputs = self.model(**dict(zip(INPUTS, given, strict=True)))
                return tuple(outputs[name] for name in names)

        # "choices" stands between batch and sequence where a question has several texts
        axes = ("batch", "choices", "sequence") if kind == "choice" else ("batch", "sequence")
        # three tensors, not one three times: the exporter takes those for one input
        example = tuple(torch.ones((3, 4, 17) if kind == "choice" else (3, 17), dtype=torch.long) for _ in INPUTS)
        program: Any = torch.onnx.export(
            Named().eval(), example, dynamo=True, dynamic_shapes=((dict(enumerate(axes)),) * 3,), input_names=list(INPUTS), output_names=list(names),
            opset_version=OPSET, verbose=False,
        )  # fmt: skip
        size = sum(tensor.numel() * tensor.element_size() for tensor in model.parameters())
        program.save(str(folder / GRAPH), external_data=size > CAP)


def _saved(predictor: Predictor, directory: Path) -> Any:
    """PyTorch's class of the head, read from the directory that is written."""
    import torch
    import transformers

    predictor.save_pretrained(directory)
    name = predictor.encoder.architectures[predictor.task.kind]
    return getattr(transformers, name).from_pretrained(directory, dtype=torch.float32, local_files_only=True)


def _mean_classifier(predictor: Predictor, directory: Path) -> Any:
    """PyTorch's encoder, read from the directory that is written, with the mean over a text's tokens and one linear layer: transformers has no such class."""
    import torch
    import transformers

    task, encoder = predictor.task, predictor.encoder
    config = json.loads((predictor.model / "config.json").read_text(encoding="utf-8"))
    hf.write(directory, predictor.params, encoder, config, kind=hf.HEADLESS, labels=task.labels, problem_type=task.problem_type)
    save_tokenizer(predictor.tokenizer, predictor.model, directory)
    weights = {name: torch.tensor(np.asarray(array, np.float32)) for name, array in predictor.params["head"]["classifier"].items()}

    class MeanClassifier(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = getattr(transformers, encoder.architectures[hf.HEADLESS]).from_pretrained(directory, dtype=torch.float32, local_files_only=True)
            self.classifier = torch.nn.Linear(*weights["kernel"].shape)
            self.classifier.load_state_dict({"weight": weights["kernel"].T, "bias": weights["bias"]})

        def forward(self, **given: Any) -> dict[str, Any]:
            mask = given["attention_mask"][..., None].float()  # (B, T, 1)
            sums = (self.encoder(**given).last_hidden_state * mask).sum(1)
            return {"logits": self.classifier(sums / mask.sum(1).clamp(min=1.0))}

    return MeanClassifier()


def logits_of(graph: Path, kind: str) -> tuple[Logits, set[tuple[int, ...]]]:
    """What onnxruntime computes, in the shapes of `reference.forward`; and the shapes that it was given so far, which grow with each call."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    wanted = {one.name for one in session.get_inputs()}  # a graph has no input that it does not use
    shapes: set[tuple[int, ...]] = set()
    sizes = itertools.cycle(SIZES)

    def run(given: Inputs) -> np.ndarray:
        feed = {name: array.astype(np.int64) for name, array in given.items() if name in wanted}
        shapes.add(given["input_ids"].shape)
        if kind == "choice":
            feed = {name: array[:, None] for name, array in feed.items()}
        outputs = session.run(None, feed)
        if kind == "span":
            return np.stack(outputs, -1)
        return outputs[0][:, 0] if kind == "choice" else outputs[0]

    def logits(given: Inputs) -> np.ndarray:
        """In batches of several sizes, without the padding that none of their texts needs."""
        num_rows, length = given["input_ids"].shape
        parts, start = [], 0
        while start < num_rows:
            size = next(sizes)
            part = {name: given[name][start : start + size] for name in INPUTS}
            longest = int(part["attention_mask"].sum(1).max())
            found = run({name: array[:, :longest] for name, array in part.items()})
            if kind not in reference.PER_TEXT:
                found = np.pad(found, ((0, 0), (0, length - longest), (0, 0)))
            parts.append(found)
            start += size
        return np.concatenate(parts)

    return logits, shapes


def checked_examples(run: Run) -> Examples:
    found = reference.examples(run.predictor, run.workdir, num_records=NUM_CHECKED)
    return found._replace(tokens=found.tokens[:NUM_CHECKED])


def check(predictor: Predictor, found: Examples, graph: Path, *, bound: float) -> dict[str, Any]:
    """The graph's logits against ours."""
    import onnxruntime

    theirs, shapes = logits_of(graph, predictor.task.kind)
    difference = reference.compare(found.tokens, reference.logits_of(predictor, predictor.params), theirs, kind=predictor.task.kind)
    report = reference.report(found, difference, reader=f"onnxruntime {onnxruntime.__version__}", bound=bound)
    return report | {"shapes": sorted(shapes), "size": graph.stat().st_size}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the advice of PyTorch, its exporter and transformers."""
    from transformers.utils import logging as theirs

    bars, before = theirs.is_progress_bar_enabled(), logging.root.manager.disable
    logging.disable(logging.WARNING)
    theirs.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
        if bars:
            theirs.enable_progress_bar()
