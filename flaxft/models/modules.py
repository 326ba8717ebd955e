"""The modules of a sentence-transformers directory, beside its encoder: how tokens become one vector. Read from modules.json, and written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from flaxft.errors import UserError
from flaxft.models.base import Modules
from flaxft.models.weights import SINGLE, Stored, names_outside, read_json, stored_tensors

FILE, CONFIG, CAP = "modules.json", "config_sentence_transformers.json", 1 << 20  # bytes; real ones have a few hundred
SETTINGS = ("sentence_bert_config.json", "sentence_roberta_config.json")  # older directories have these without modules.json
POOLING = "1_Pooling"
# Before version 6 a pooling config had one yes or no for each of its ways.
SWITCHES = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}


def read_modules(directory: Path) -> Modules | None:
    """What modules.json names; None for a directory without one. Raises UserError for a file that cannot be understood."""
    file = directory / FILE
    if not file.is_file():
        return None
    rows = read_json(file, cap=CAP, missing="")
    if not isinstance(rows, list) or not all(isinstance(row, dict) and isinstance(row.get("type"), str) and isinstance(row.get("path"), str) for row in rows):
        raise UserError(f'{file}: expected a list of modules such as {{"type": "sentence_transformers.models.Pooling", "path": "{POOLING}"}}; fetch it again')
    outside = names_outside([row["path"].rstrip("/") for row in rows if row["path"]], directory)
    if outside:
        raise UserError(f"{file}: the paths {outside} leave the directory; refused")
    pooling, normalize, encoder, others = None, False, "", []
    for row in rows:
        name, path = row["type"].rpartition(".")[2], row["path"]  # versions keep the same class in different places
        if name == "Pooling":
            pooling = _pooling(directory / path / "config.json")
        elif name == "Normalize":
            normalize = True
        elif name == "Transformer":
            encoder = path
        else:
            others.append(f"{name} ({path})" if path else name)
    classifier = next((row["path"] for row in rows if row["type"].endswith(".Dense")), "") if len(rows) == 3 and pooling == "mean" else ""
    if classifier and not str(_settings(directory / classifier / "config.json").get("activation_function")).endswith(".Identity"):
        classifier = ""
    own = directory / CONFIG
    prompt = read_json(own, cap=CAP, missing="") if own.is_file() else {}
    if isinstance(prompt, dict) and prompt.get("default_prompt_name"):
        others.append(f"a prompt before every text ({prompt['default_prompt_name']!r} in {CONFIG})")
    return Modules(pooling, normalize, others=tuple(others), encoder=encoder, classifier=classifier)


def read_classifier(directory: Path) -> dict[str, Stored]:
    """The tensors of a dense layer by the names that transformers gives a classifier's. Raises UserError."""
    names = {"linear.weight": "classifier.weight", "linear.bias": "classifier.bias"}
    return {names[name]: tensor for name, tensor in stored_tensors(directory).items() if name in names}


def _settings(file: Path) -> dict[str, Any]:
    content = read_json(file, cap=CAP, missing=f"{file}: {FILE} names it, and it is not there; fetch the whole model")
    if not isinstance(content, dict):
        raise UserError(f"{file}: a JSON {type(content).__name__}, expected an object; fetch it again")
    return content


def _pooling(file: Path) -> str:
    """mean, cls, max, ...; "cls+mean" where vectors of several are joined. Raises UserError."""
    content = _settings(file)
    named = content.get("pooling_mode")
    modes = [named] if isinstance(named, str) else named if isinstance(named, list) else [mode for key, mode in SWITCHES.items() if content.get(key)]
    return "+".join(map(str, modes)) or "mean"  # sentence-transformers' default


def write_modules(
    directory: Path, *, size: int, pooling: str, normalize: bool, max_length: int, similarity: str, dense: Mapping[str, np.ndarray] | None = None
) -> None:
    """Writes what sentence-transformers reads beside the encoder of `size`, in the words of its own directories.

    pooling: mean or cls. similarity: of two vectors, cosine or dot. dense: {"kernel": (size, L), "bias": (L,)} of a linear layer on the pooled vector.
    """
    from safetensors.numpy import save_file

    names = ["Transformer", "Pooling", *(["Dense"] if dense else []), *(["Normalize"] if normalize else [])]
    paths = ["", *(f"{i}_{name}" for i, name in enumerate(names) if i)]
    rows = [{"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{names[i]}"} for i, path in enumerate(paths)]
    _write(directory / FILE, rows)
    _write(directory / SETTINGS[0], {"max_seq_length": max_length, "do_lower_case": False})
    _write(directory / CONFIG, {"similarity_fn_name": similarity})
    modes = {f"pooling_mode_{name}": name == wanted for name, wanted in (("cls_token", f"{pooling}_token"), ("mean_tokens", f"{pooling}_tokens"))}
    _write(directory / POOLING / "config.json", {"word_embedding_dimension": size} | modes)
    if normalize:
        _write(directory / paths[-1] / "config.json", {})
    if dense:
        kernel, bias = (np.asarray(dense[name], np.float32) for name in ("kernel", "bias"))
        shape = {"in_features": kernel.shape[0], "out_features": kernel.shape[1], "bias": True}
        _write(directory / "2_Dense" / "config.json", shape | {"activation_function": "torch.nn.modules.linear.Identity"})
        tensors = {"linear.weight": np.ascontiguousarray(kernel.T), "linear.bias": bias}
        save_file(tensors, directory / "2_Dense" / SINGLE, metadata={"format": "pt"})


def _write(file: Path, content: Any) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
