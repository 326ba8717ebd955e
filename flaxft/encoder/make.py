"""What the packaged encoder is made with, beside the training run of configs/mlm.py: where it begins, and its small file at the end.

    python -m flaxft.encoder.make start --out=DIR FILE.jsonl ...     config.json, tokenizer and first weights from the "text" of those files
    python -m flaxft.encoder.make pack --out=DIR MODEL               a saved model (float32) with its weights in bfloat16

The first weights are random but for these. From all-random ones the loss stayed at 5.95 (a little below that of word frequencies) for 2,800 steps of 3,400
tokens: attention finds nothing to look at while no word means anything and each position must be learnt by itself.

* Word embeddings: the leading singular vectors of the words' co-occurrences as positive pointwise mutual information (Levy and Goldberg 2014).
* Position embeddings: sinusoids (Vaswani et al. 2017, arXiv 1706.03762) in dims of their own, in which "the word before" is the same rotation everywhere.
* Queries and keys of the first two layers: each head looks at one offset, the word before, the word after, and so on. Trained encoders have such heads (Clark
  et al. 2019, arXiv 1906.04341), and attention that begins like a trained one is known to help small models (Trockman and Kolter 2023, arXiv 2305.09828).
"""

from __future__ import annotations

import argparse
import json
import pathlib
import shutil
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from tokenizers import Tokenizer

VOCAB_SIZE = 8000
WINDOW = 5  # pieces to each side that count as a word's company
OFFSETS = ((-1, 1, -2, 2, -3, 3), (-1, 1, -2, 2, -4, 4))  # where the heads of the first layers look, relative to themselves
POSITION_SHARE = 1.6  # amplitude of the sinusoids over the words' root mean square
PEAK = 10.0  # attention's score at a head's offset, before the softmax; elsewhere it is near 0
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
# 3.5 million parameters, under 7 MB in bfloat16. Four narrow layers rather than two wide ones: what a token means is found in its context.
CONFIG: dict[str, Any] = {
    "architectures": ["BertModel"],
    "model_type": "bert",
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 192,
    "num_hidden_layers": 4,
    "num_attention_heads": 6,
    "intermediate_size": 768,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "initializer_range": 0.05,  # about 1 / sqrt(hidden size), as 0.02 is for larger ones: with less, attention stays even for the first thousand steps
    "pad_token_id": 0,
    "dtype": "float32",  # the file holds bfloat16 to stay small; transformers would otherwise compute in it
}


def start(files: Sequence[pathlib.Path], out: pathlib.Path) -> None:
    """A directory that `Pretrained` reads: a cased WordPiece vocabulary trained on the texts, and weights to begin with."""
    from safetensors.numpy import save_file

    out.mkdir(parents=True, exist_ok=True)
    tokenizer = _tokenizer(files)
    tokenizer.save(str(out / "tokenizer.json"))
    names = {f"{token.strip('[]').lower()}_token": token for token in SPECIAL}
    settings = {"tokenizer_class": "BertTokenizer", "do_lower_case": False, "strip_accents": False, "model_max_length": CONFIG["max_position_embeddings"]}
    _write_json(out / "tokenizer_config.json", settings | names)
    config = CONFIG | {"vocab_size": tokenizer.get_vocab_size()}
    _write_json(out / "config.json", config)
    texts = [encoding.ids for encoding in tokenizer.encode_batch_fast(list(_texts(files)), add_special_tokens=False)]
    save_file(first_weights(texts, config), out / "model.safetensors", metadata={"format": "pt"})


def first_weights(texts: Sequence[Sequence[int]], config: dict[str, Any], *, seed: int = 0) -> dict[str, np.ndarray]:
    """Tensors of a BertModel under their Hugging Face names, float32. texts: piece numbers of each."""
    rng = np.random.default_rng(seed)
    size, inner, scale = config["hidden_size"], config["intermediate_size"], config["initializer_range"]
    head_size = size // config["num_attention_heads"]  # as many dims hold the position: those of one head
    frequencies = np.pi * ((np.arange(head_size // 2) + 0.5) * (np.sqrt(5) - 1) / 2 % 1)  # spread evenly without a common period
    words = np.zeros((config["vocab_size"], size))
    words[:, head_size:] = _to_scale(co_occurrence_vectors(texts, config["vocab_size"], size - head_size, rng=rng), scale)
    positions = np.zeros((config["max_position_embeddings"], size))
    positions[:, :head_size] = POSITION_SHARE * scale * sinusoids(config["max_position_embeddings"], frequencies)
    squares = ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense")
    products = dict.fromkeys(squares, (size, size)) | {"intermediate.dense": (inner, size), "output.dense": (size, inner)}
    tensors = {
        "embeddings.word_embeddings.weight": words,
        "embeddings.position_embeddings.weight": positions,
        "embeddings.token_type_embeddings.weight": rng.normal(0.0, 0.1 * scale, (config["type_vocab_size"], size)),
    }
    norms = ["embeddings.LayerNorm"]
    for layer in (f"encoder.layer.{i}" for i in range(config["num_hidden_layers"])):
        for place, shape in products.items():
            tensors |= {f"{layer}.{place}.weight": rng.normal(0.0, scale, shape), f"{layer}.{place}.bias": np.zeros(shape[0])}
        norms += [f"{layer}.attention.output.LayerNorm", f"{layer}.output.LayerNorm"]
    for number, offsets in enumerate(OFFSETS[: config["num_hidden_layers"]]):
        for name, rotations in (("query", np.zeros(len(offsets))), ("key", -np.asarray(offsets, float))):
            kernel = rng.normal(0.0, 0.1 * scale, (size, size))
            strength = np.sqrt(PEAK / np.sqrt(head_size)) / POSITION_SHARE
            for head, rotation in enumerate(rotations):
                kernel[head * head_size : (head + 1) * head_size, :head_size] += strength * rotate(frequencies, rotation)
            tensors[f"encoder.layer.{number}.attention.self.{name}.weight"] = kernel
    for norm in norms:
        tensors |= {f"{norm}.weight": np.ones(size), f"{norm}.bias": np.zeros(size)}
    return {name: np.ascontiguousarray(tensor, np.float32) for name, tensor in tensors.items()}


def co_occurrence_vectors(texts: Sequence[Sequence[int]], vocab_size: int, size: int, *, rng: np.random.Generator) -> np.ndarray:
    """(vocab_size, size): U sqrt(S) of the truncated SVD of positive pointwise mutual information, within `WINDOW` pieces of one text.

    The SVD is a randomised one (Halko, Martinsson and Tropp 2011, arXiv 0909.4061). A piece that never comes gets a small random row.
    """
    counts = np.zeros(vocab_size**2, np.float32)
    gap = np.full(WINDOW, -1)  # so that no pair spans two texts
    stream = np.concatenate([part for ids in texts for part in (np.asarray(ids, np.int64), gap)] or [gap])
    for distance in range(1, WINDOW + 1):
        left, right = stream[:-distance], stream[distance:]
        inside = (left >= 0) & (right >= 0)
        counts += np.bincount(left[inside] * vocab_size + right[inside], minlength=vocab_size**2)
    table = counts.reshape(vocab_size, vocab_size)
    table = table + table.T
    num = np.maximum(table.sum(1), 1.0)
    context = num**0.75  # rare contexts count less (Levy, Goldberg and Dagan 2015)
    with np.errstate(divide="ignore"):
        table = np.maximum(np.log(table * (context.sum() / num)[:, None] / context[None, :]), 0.0)
    sketch = table @ rng.normal(size=(vocab_size, min(vocab_size, size + 32))).astype(np.float32)
    for _ in range(3):
        sketch = table @ (table.T @ np.linalg.qr(sketch)[0])
    basis = np.linalg.qr(sketch)[0]
    left, values, _ = np.linalg.svd(basis.T @ table, full_matrices=False)
    vectors = (basis @ left)[:, :size] * np.sqrt(values[:size])
    missing = np.linalg.norm(vectors, axis=1) < 1e-6
    vectors[missing] = rng.normal(0.0, 0.1 * vectors.std(), (int(missing.sum()), size))
    # rotated, so that no few dims hold all of the variance: norms treat dims alike
    return vectors @ np.linalg.qr(rng.normal(size=(size, size)))[0]


def sinusoids(num_positions: int, frequencies: np.ndarray) -> np.ndarray:
    """(num_positions, 2 F): the sines, then the cosines, of the position times each of the F frequencies."""
    angles = np.arange(num_positions)[:, None] * frequencies
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)


def rotate(frequencies: np.ndarray, by: float) -> np.ndarray:
    """(2 F, 2 F): the matrix that turns the sinusoids of position p into those of p + by."""
    sin, cos = np.diag(np.sin(frequencies * by)), np.diag(np.cos(frequencies * by))
    return np.block([[cos, sin], [-sin, cos]])


def _to_scale(rows: np.ndarray, scale: float) -> np.ndarray:
    """Every row with the root mean square of a row drawn from normal(0, scale)."""
    return rows * (scale / np.sqrt(np.square(rows).mean(1, keepdims=True)))


def _tokenizer(files: Sequence[pathlib.Path]) -> Tokenizer:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False, strip_accents=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    # every printable ASCII sign is a piece, and may go on inside a word: what books do not use (@ # _), tweets do
    alphabet = [chr(code) for code in range(33, 127)]
    trainer = trainers.WordPieceTrainer(
        vocab_size=VOCAB_SIZE, min_frequency=5, special_tokens=list(SPECIAL), initial_alphabet=alphabet, limit_alphabet=200, show_progress=False
    )
    tokenizer.train_from_iterator(_texts(files), trainer)
    # special tokens come first, in the order given
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", SPECIAL.index("[SEP]")), ("[CLS]", SPECIAL.index("[CLS]")))
    return tokenizer


def pack(model: pathlib.Path, out: pathlib.Path) -> None:
    """Copies a model directory with its weights rounded to bfloat16: half the size, and safetensors still."""
    import ml_dtypes
    from safetensors.numpy import load_file, save_file

    out.mkdir(parents=True, exist_ok=True)
    tensors = load_file(model / "model.safetensors")
    save_file({name: tensor.astype(ml_dtypes.bfloat16) for name, tensor in tensors.items()}, out / "model.safetensors", metadata={"format": "pt"})
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(model / name, out / name)


def _texts(files: Sequence[pathlib.Path]) -> Iterator[str]:
    for file in files:
        with file.open(encoding="utf-8") as lines:
            yield from (json.loads(line)["text"] for line in lines)


def _write_json(file: pathlib.Path, content: Any) -> None:
    file.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, given in (("start", "+"), ("pack", None)):
        command = commands.add_parser(name)
        command.add_argument("--out", type=pathlib.Path, required=True)
        command.add_argument("source", type=pathlib.Path, nargs=given)
    arguments = parser.parse_args()
    (start if arguments.command == "start" else pack)(arguments.source, arguments.out)


if __name__ == "__main__":
    main()
