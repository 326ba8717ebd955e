"""Small runs for tests: a tiny random BERT directory and a corpus, made in a temporary folder."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from flaxft.checkpoint import Checkpointing
from flaxft.config import Config, Eval
from flaxft.data.pipeline import Data
from flaxft.log import Log
from flaxft.models.hf import Pretrained
from flaxft.optim import Optim
from flaxft.tasks.token_classification import TokenClassification

WORDS = "anna bob carl dora paris rome oslo acme corp lives works in at for with the a new old is was red blue . , ? !".split()
LETTERS = "abcdefghijklmnopqrstuvwxyz"
# without doubles: "a" is a word and a letter
PIECES = list(dict.fromkeys(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *LETTERS, *(f"##{c}" for c in LETTERS + "0123456789")]))
ENCODER = dict(
    model_type="bert", architectures=["BertModel"], vocab_size=128, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
    max_position_embeddings=64, type_vocab_size=2, hidden_act="gelu", layer_norm_eps=1e-12, hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1,
    initializer_range=0.2, pad_token_id=0,
)  # fmt: skip


# Of a run that is evaluated and saved once, at its end: eight examples are an epoch of one step, and an evaluation or a save costs more than fifty of them.
ONCE: dict[str, Any] = {"evals": {"validation": Eval(every=1000)}, "checkpoint.every": 1000}


def encoder(directory: Path, **changes: Any) -> Path:
    """A BertModel directory with random weights, HF names, and a WordPiece tokenizer."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    config = ENCODER | changes
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(config))
    save_file(weights(config), directory / "model.safetensors")
    tokenizer = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(PIECES)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    tokenizer.enable_padding(length=40)  # as real tokenizer.json files have it
    tokenizer.enable_truncation(40)
    tokenizer.save(str(directory / "tokenizer.json"))
    return directory


def weights(config: dict[str, Any], *, seed: int = 0) -> dict[str, np.ndarray]:
    """Random tensors of a BertModel under their Hugging Face names."""
    rng = np.random.default_rng(seed)
    size, inner = config["hidden_size"], config["intermediate_size"]
    tables = {"word": "vocab_size", "position": "max_position_embeddings", "token_type": "type_vocab_size"}
    shapes = {f"embeddings.{name}_embeddings.weight": (config[key], size) for name, key in tables.items()}
    squares = ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense")
    products = dict.fromkeys(squares, (size, size)) | {"intermediate.dense": (inner, size), "output.dense": (size, inner)}
    norms = ["embeddings.LayerNorm"]
    for layer in (f"encoder.layer.{i}" for i in range(config["num_hidden_layers"])):
        for place, shape in products.items():
            shapes |= {f"{layer}.{place}.weight": shape, f"{layer}.{place}.bias": shape[:1]}
        norms += [f"{layer}.attention.output.LayerNorm", f"{layer}.output.LayerNorm"]
    tensors = {name: rng.standard_normal(shape) * config["initializer_range"] for name, shape in shapes.items()}
    for norm in norms:
        tensors |= {f"{norm}.weight": 1 + 0.1 * rng.standard_normal(size), f"{norm}.bias": 0.1 * rng.standard_normal(size)}
    return {name: tensor.astype(np.float32) for name, tensor in tensors.items()}


def corpus(file: Path, *, num: int = 60, seed: int = 0, longest: int = 30) -> Path:
    """Random sentences whose tags follow from the words: names are PER, towns LOC, "acme corp" ORG."""
    rng = np.random.default_rng(seed)
    tags = dict.fromkeys(("anna", "bob", "carl", "dora"), "B-PER") | dict.fromkeys(("paris", "rome", "oslo"), "B-LOC") | {"acme": "B-ORG", "corp": "I-ORG"}
    lines = []
    for _ in range(num):
        picked = [WORDS[pick] for pick in rng.integers(0, len(WORDS), rng.integers(3, longest))]
        words = " ".join("acme corp" if word in ("acme", "corp") else word for word in picked).split()
        lines += [f"{word}\t{tags.get(word, 'O')}" for word in words] + [""]
    file.write_text("\n".join(lines) + "\n")
    return file


def config(folder: Path, **changes: Any) -> Config:
    """A run of seconds over a tiny encoder; `changes` are dotted fields: config(tmp_path, **{"data.batch_size": 4})."""
    if not (folder / "encoder").exists():
        encoder(folder / "encoder")
        for split, seed in (("train", 0), ("validation", 1), ("test", 2)):
            corpus(folder / f"{split}.conll", seed=seed, num=60 if split == "train" else 20)
    cfg = Config(
        task=TokenClassification(**{split: str(folder / f"{split}.conll") for split in ("train", "validation", "test")}),
        model=Pretrained(path=str(folder / "encoder")),
        optim=Optim(learning_rate=1e-2, warmup=0.1),
        data=Data(batch_size=8, max_length=32, eval_tokens=256, num_shapes=1),
        checkpoint=Checkpointing(every=5),
        log=Log(every=4, report=False, baseline=False),  # which take seconds
        evals={"validation": Eval()},
        num_epochs=2,
    )
    for path, value in changes.items():
        *parents, last = path.split(".")
        owner: Any = cfg
        for name in parents:
            owner = getattr(owner, name)
        assert last in {field.name for field in dataclasses.fields(owner)}, path
        setattr(owner, last, value)
    return cfg


def outputs(loaded: Any, batch: dict[str, np.ndarray]) -> Any:
    """What a model gives for a batch, as one program: op by op, dozens would be compiled."""
    import jax
    from flax import nnx

    return jax.jit(lambda params, batch: nnx.merge(loaded.graphdef, params)(batch))(loaded.params, batch)


def devices(num: int) -> dict[str, str]:
    """The environment of a process in which the CPU is `num` devices; how programs are compiled stays as in tests/conftest.py."""
    return os.environ | {"XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={num}".strip()}


def losses(workdir: Path) -> dict[int, float]:
    """Step -> loss, as metrics.jsonl has them; each step once."""
    records = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == list(range(1, len(records) + 1))
    return {record["step"]: record["loss"] for record in records}
