"""A directory that PyTorch `transformers` loads as it is, with a model card, and with the proof that its logits are ours."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flaxft import files
from flaxft.errors import UserError, reason
from flaxft.export import card, reference
from flaxft.export.base import Run
from flaxft.export.reference import INPUTS, Inputs, Logits
from flaxft.models import hf
from flaxft.models.base import Encoder
from flaxft.models.modules import write_modules
from flaxft.predict import Predictor
from flaxft.tasks.base import Pools

BOUND = 1e-5  # x max(1, largest logit of the example): how far apart two float32 implementations may be
DTYPES = ("float32", "bfloat16")
NUM_STORED, STORED_LENGTH, STORED_CAP = 8, 16, 4 << 20  # examples whose logits go with the directory, tokens, and bytes: a vocabulary's take 120 kB a token
REPORT, STORED = "parity.json", "reference.safetensors"


def fits(kind: str, encoder: Encoder) -> bool:
    """Whether transformers has a class of the encoder's family with a head of this kind."""
    return kind in encoder.architectures


def write(run: Run, folder: Path, *, dtype: str = "float32") -> list[str]:
    """Fills `folder`; returns lines that tell of it. dtype: of the weights, float32 or bfloat16. Raises UserError."""
    if dtype not in DTYPES:
        raise UserError(f"--dtype={dtype} is no type of weights; allowed are {', '.join(DTYPES)}")
    predictor = run.predictor
    predictor.save_pretrained(folder, dtype=dtype)
    finish_tokenizer(predictor, folder)
    if isinstance(predictor.task, Pools):
        _write_modules(predictor.task, predictor, folder)
    report = _parity(run, folder, dtype)
    files.write_json(folder / REPORT, report)
    (folder / "README.md").write_text(card.render(run, report, dtype=dtype, stored=STORED), encoding="utf-8")
    tokenizer = report["tokenizer"]
    strange = f"warning: AutoTokenizer gives other pieces for {tokenizer['num_different']} of {tokenizer['num_texts']} texts"
    return [reference.sentence(report), *([strange] if tokenizer["num_different"] else [])]


# ---- files beside the weights -------------------------------------------------------------------------------------------------------------------


def finish_tokenizer(predictor: Predictor, folder: Path) -> None:
    """Pipelines cut and pad texts, and need the length and the special tokens by name."""
    file = folder / "tokenizer_config.json"
    settings = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    if not 0 < settings.get("model_max_length", 0) <= predictor.encoder.max_length:
        settings["model_max_length"] = predictor.encoder.max_length
    # BERT's tokenizer in transformers goes by these, and not by tokenizer.json, and lowercases where nothing says otherwise
    normalizer = predictor.tokenizer.backend.normalizer
    for attribute, key in {"lowercase": "do_lower_case", "strip_accents": "strip_accents", "handle_chinese_chars": "tokenize_chinese_chars"}.items():
        if hasattr(normalizer, attribute):
            settings.setdefault(key, getattr(normalizer, attribute))
    pieces = set(predictor.tokenizer.pieces)
    for role, names in {"pad": ("[PAD]", "<pad>"), "unk": ("[UNK]", "<unk>"), "mask": ("[MASK]", "<mask>")}.items():
        name = next((name for name in names if name in pieces), None)
        if name is not None:
            settings.setdefault(f"{role}_token", name)
    files.write_json(file, settings)


def _write_modules(task: Pools, predictor: Predictor, folder: Path) -> None:
    """What sentence-transformers reads beside the model."""
    sizes = {"size": predictor.encoder.hidden_size, "max_length": predictor.data.max_length}
    write_modules(folder, pooling=task.pooling, normalize=task.normalize, similarity="cosine" if task.normalize else "dot", **sizes)


# ---- parity -------------------------------------------------------------------------------------------------------------------------------------


def _parity(run: Run, folder: Path, dtype: str) -> dict[str, Any]:
    """Compares the directory, as another program reads it, with our logits; stores some of ours, for whoever checks later."""
    predictor, kind = run.predictor, run.predictor.task.kind
    found = reference.examples(predictor, run.workdir)
    # Weights of fewer digits are another model: what is compared is how it is computed, in float32 on both sides.
    written = jax.tree.map(lambda leaf: leaf.astype(jnp.dtype(dtype)).astype(jnp.float32), predictor.params)
    ours = reference.logits_of(predictor, written)
    with quiet():
        reader, theirs = _pytorch(predictor, folder) if importlib.util.find_spec("torch") else read_back(predictor, folder)
        difference = reference.compare(found.tokens, ours, theirs, kind=kind)
        num_texts, num_different = tokenizer_differences(predictor, folder, found.texts)
    report = reference.report(found, difference, reader=reader, bound=BOUND) | {
        "class": predictor.encoder.architectures[kind],
        "tokenizer": {"num_texts": num_texts, "num_different": num_different},
        "stored_examples": store(predictor, ours, folder / STORED),
    }
    if dtype != "float32":
        exact = reference.compare(found.tokens, reference.logits_of(predictor, predictor.params), ours, kind=kind)
        report["rounding"] = exact.largest
    return report


def _pytorch(predictor: Predictor, folder: Path) -> tuple[str, Logits]:
    """What reads it, and its logits: PyTorch's class of the head, in float32."""
    import torch
    import transformers

    kind = predictor.task.kind
    model = getattr(transformers, predictor.encoder.architectures[kind]).from_pretrained(folder, dtype=torch.float32, local_files_only=True).eval()

    def logits(given: Inputs) -> np.ndarray:
        tensors = {name: torch.tensor(given[name], dtype=torch.long) for name in INPUTS}
        with torch.no_grad():
            return outputs_of(kind, model, tensors).float().numpy()

    return f"transformers {transformers.__version__}, torch {torch.__version__}", logits


def outputs_of(kind: str, model: Any, tensors: dict[str, Any]) -> Any:
    """A PyTorch model's outputs in the shapes of `reference.forward`."""
    import torch

    if kind == "choice":  # (B, choices, T): each example as the one choice of a question
        return model(**{name: tensor[:, None] for name, tensor in tensors.items()}).logits[:, 0]
    outputs = model(**tensors)
    if kind == "span":
        return torch.stack([outputs.start_logits, outputs.end_logits], -1)
    return outputs.last_hidden_state if kind == "embedding" else outputs.logits


def read_back(predictor: Predictor, folder: Path) -> tuple[str, Logits]:
    """Without PyTorch: what flaxft itself reads of the directory."""
    source = hf.Pretrained(path=str(folder))
    loaded = source.load(source.open(), predictor.task.head, reuse_head=True, seed=0)
    return "flaxft itself (torch is not installed)", reference.logits_of(predictor, loaded.params)


def tokenizer_differences(predictor: Predictor, folder: Path, texts: list[str]) -> tuple[int, int]:
    """`(how many texts were compared, on how many AutoTokenizer's pieces are not ours)`."""
    from transformers import AutoTokenizer

    ours, theirs = predictor.tokenizer, AutoTokenizer.from_pretrained(folder, local_files_only=True)
    special = [name for name in (*theirs.all_special_tokens, *theirs.get_added_vocab()) if name]
    plain = [text for text in texts if not any(name in text for name in special)]  # "[SEP]" in a text is plain text to us, and a special token to it
    different = 0
    for text in plain:
        different += theirs(text).input_ids != ours.wrap(ours.text(text)[0]).tolist()
    return len(plain), different


def store(predictor: Predictor, ours: Logits, file: Path) -> int:
    """Writes inputs and logits of a few examples, and returns of how many. Random pieces: a model may go where its data must not."""
    from safetensors.numpy import save_file

    kind = predictor.task.kind
    chosen = reference.random_tokens(predictor, num=NUM_STORED, longest=STORED_LENGTH)
    while chosen:
        given = reference.inputs(chosen, num_rows=len(chosen), length=max(len(ids) for ids, _ in chosen))
        logits = ours(given)
        if logits.nbytes <= STORED_CAP or len(chosen) == 1:
            save_file({**given, "logits": logits}, file, metadata={"kind": kind, "made_by": f"flaxft {importlib.metadata.version('flaxft')}"})
            break
        chosen = chosen[: len(chosen) // 2]
    return len(chosen)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' bars and advice; what fails is one line. Its own settings come back."""
    from transformers.utils import logging

    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(f"the exported directory cannot be read back ({reason(error)})") from error
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()
