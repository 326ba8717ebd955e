"""What every export is compared with: our own logits on real examples, one example a row as other software has them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from flaxft.data.base import Batch, Record
from flaxft.errors import UserError
from flaxft.models.base import EncoderOutput, Model, Params
from flaxft.predict import Predictor

NUM_RECORDS = 512  # and examples that are compared at most
BATCH_SIZE = 16
WRONG = 100  # times a bound: no rounding, but another model
PER_TEXT = ("sequence", "mean_sequence", "choice")  # kinds of heads with one output a text; the others have one a token
INPUTS = ("input_ids", "attention_mask", "token_type_ids")

Inputs = dict[str, np.ndarray]  # the three, int32 (B, T) each
Logits = Callable[[Inputs], np.ndarray]  # (B, T, ...) of heads with an output a token, else (B, ...)


class Examples(NamedTuple):
    source: str  # in words
    tokens: list[tuple[np.ndarray, np.ndarray]]  # input_ids and token_type_ids of each, int32 (n,)
    texts: list[str]  # that stand in the records


class Difference(NamedTuple):
    num_examples: int
    num_tokens: int
    largest: float  # of all differences of two logits
    largest_logit: float  # of the other side
    worst: float  # of all examples: largest difference / max(1, largest logit of the example)


def examples(predictor: Predictor, workdir: Path, *, num_records: int = NUM_RECORDS) -> Examples:
    """The first records of the test split, else of validation; where their files are gone, what the run predicted for them; failing all that, random pieces."""
    for source, records in _sources(predictor, workdir, num_records):
        tokens: list[tuple[np.ndarray, np.ndarray]] = []
        num_used = 0
        while num_used < len(records) and len(tokens) < num_records:  # a record may be several examples
            tokens += _tokens(predictor, records[num_used])
            num_used += 1
        if tokens:
            return Examples(source.replace("NUM", str(num_used), 1), tokens, [text for record in records[:num_used] for text in _texts(record)])
    return Examples("random pieces of the vocabulary, because no split is there", random_tokens(predictor, num=32, longest=predictor.data.max_length), [])


def random_tokens(predictor: Predictor, *, num: int, longest: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Examples of pieces that mean nothing, the same each time."""
    rng = np.random.default_rng(0)
    numbers = np.asarray([i for i, piece in enumerate(predictor.tokenizer.pieces) if piece], np.int32)
    lengths = rng.integers(1, max(2, longest - predictor.tokenizer.num_special), num)
    ids = [predictor.tokenizer.wrap(rng.choice(numbers, length)) for length in lengths]
    return [(one, np.zeros_like(one)) for one in ids]


def _sources(predictor: Predictor, workdir: Path, num_records: int) -> Iterator[tuple[str, list[Record]]]:
    """`(what they are, NUM standing for how many were used; records)`."""
    splits = predictor.task.splits()
    names = [name for name in ("test", "validation") if name in splits]
    most = min(num_records, predictor.data.max_examples or num_records)
    for name in names:
        try:
            records = predictor.task.records(name, max_examples=most)
        except UserError:
            continue
        yield f"{name}: the first NUM records of {Path(splits[name]).name}", list(records)
    for name in names:
        file = workdir / "predictions" / f"{name}.jsonl"
        if file.is_file():
            lines = file.read_text(encoding="utf-8").splitlines()[:most]
            yield f"{name}: the texts of the first NUM predictions of the run", [json.loads(line) for line in lines]


def _tokens(predictor: Predictor, record: Record) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    tries = (record, {"tokens": record.get("words")}, {"text": record.get("text")})  # a prediction is no record of every task; its words or text are
    for one in tries:
        try:
            features = predictor.task.features(one, predictor.tokenizer, max_length=predictor.data.max_length)
        except (UserError, TypeError):
            continue
        for feature in features:
            ids = np.asarray(feature.tokens["input_ids"], np.int32)
            yield ids, np.asarray(feature.tokens.get("token_type_ids", np.zeros_like(ids)), np.int32)
        return


def _texts(record: Record) -> Iterator[str]:
    for value in record.values():
        if isinstance(value, str):
            yield value
        elif isinstance(value, list | tuple) and all(isinstance(word, str) for word in value):
            yield " ".join(value)


def batches(tokens: Sequence[tuple[np.ndarray, np.ndarray]], *, size: int = BATCH_SIZE) -> Iterator[tuple[list[int], Inputs]]:
    """`(numbers of the examples, inputs)`. Lengths go up to a power of two, so that few shapes are compiled; a batch's last rows may be empty."""
    lengths: dict[int, list[int]] = {}
    for number, (ids, _) in enumerate(tokens):
        lengths.setdefault(1 << max(4, (len(ids) - 1).bit_length()), []).append(number)
    for length, numbers in sorted(lengths.items()):
        for start in range(0, len(numbers), size):
            chosen = numbers[start : start + size]
            yield chosen, inputs([tokens[number] for number in chosen], num_rows=size, length=length)


def inputs(tokens: Sequence[tuple[np.ndarray, np.ndarray]], *, num_rows: int, length: int) -> Inputs:
    found = {name: np.zeros((num_rows, length), np.int32) for name in INPUTS}
    for row, (ids, types) in enumerate(tokens):
        found["input_ids"][row, : len(ids)], found["token_type_ids"][row, : len(ids)], found["attention_mask"][row, : len(ids)] = ids, types, 1
    found["attention_mask"][len(tokens) :, 0] = 1  # a row of nothing has no softmax elsewhere
    return found


def forward(predictor: Predictor) -> Callable[..., Float[Array, "B ..."]]:
    """`logits(params, input_ids, attention_mask, token_type_ids)` under Hugging Face's own names and shapes: (B, T, L) of a token head, (B, L) of a sequence
    head, (B,) of a choice, (B, T, 2) of a span head, (B, T, V) of a masked language model; of an encoder alone its hidden states (B, T, D).

    Every one of the family's heads, not the task's own: a task may leave out what its loss does not need. Raises UserError for a head that it has not got.
    """
    task, encoder = predictor.task, predictor.encoder

    def make() -> Model:
        alone = task.kind == "embedding"
        return Model(encoder, Hidden() if alone else encoder.head(task.kind, max(1, len(task.labels)), rngs=nnx.Rngs(0)))

    graphdef, _ = nnx.split(nnx.eval_shape(make), nnx.Param)

    def logits(
        params: Params, input_ids: Int[Array, "B T"], attention_mask: Int[Array, "B T"], token_type_ids: Int[Array, "B T"]
    ) -> Float[Array, "B ..."]:
        size, length = input_ids.shape
        batch: Batch = {
            "input_ids": input_ids,
            "token_type_ids": token_type_ids,
            "position_ids": jnp.broadcast_to(jnp.arange(length, dtype=jnp.int32), (size, length)),
            "segment_ids": attention_mask,
            "example_start": jnp.zeros((size, 1), jnp.int32),
            "example_weight": jnp.ones((size, 1), jnp.float32),
        }
        outputs = nnx.merge(graphdef, params)(batch, deterministic=True)
        if task.kind in PER_TEXT:
            return outputs[:, 0]
        return outputs.logits if task.kind == "mlm" else outputs

    return logits


class Hidden(nnx.Module):
    """The head of an encoder alone."""

    def __call__(self, output: EncoderOutput, batch: Batch, *, deterministic: bool = True, rngs: Any = None) -> Float[Array, "R T D"]:
        return output.hidden.astype(jnp.float32)


def logits_of(predictor: Predictor, params: Mapping[str, Any]) -> Logits:
    """Ours, on the device, in full float32 precision (which an accelerator has to be asked for)."""
    compiled = jax.jit(forward(predictor))

    def logits(given: Inputs) -> np.ndarray:
        with jax.default_matmul_precision("highest"):
            return np.asarray(compiled(params, *(given[name] for name in INPUTS)), np.float32)

    return logits


def compare(tokens: Sequence[tuple[np.ndarray, np.ndarray]], ours: Logits, theirs: Logits, *, kind: str, size: int = BATCH_SIZE) -> Difference:
    """Over every example, without its padding."""
    largest, largest_logit, worst = 0.0, 0.0, 0.0
    for numbers, given in batches(tokens, size=size):
        mine, other = ours(given), theirs(given)
        assert mine.shape == other.shape, (mine.shape, other.shape)
        for row, number in enumerate(numbers):
            of_row = slice(None) if kind in PER_TEXT else slice(len(tokens[number][0]))
            a, b = np.atleast_1d(mine[row])[of_row], np.atleast_1d(other[row])[of_row]
            difference, magnitude = float(np.abs(a - b).max()), float(np.abs(b).max())
            difference = difference if np.isfinite(difference) else float("inf")
            largest, largest_logit, worst = max(largest, difference), max(largest_logit, magnitude), max(worst, difference / max(1.0, magnitude))
    return Difference(len(tokens), sum(len(ids) for ids, _ in tokens), largest, largest_logit, worst)


def report(found: Examples, difference: Difference, *, reader: str, bound: float) -> dict[str, Any]:
    """What parity.json says. reader: what computed the other side. Raises UserError where the two are not the same model: such an export is not handed out."""
    if difference.worst > WRONG * bound:
        far = f"logits differ by {difference.largest:.1e} (the largest is {difference.largest_logit:.3g}) from those of {reader}"
        raise UserError(f"the export is wrong and was not kept: {far}; update the packages that it needs, and report it if that does not help")
    return {
        "reader": reader,
        "examples": found.source,
        "num_examples": difference.num_examples,
        "num_tokens": difference.num_tokens,
        "largest_difference": difference.largest,
        "largest_logit": difference.largest_logit,
        "worst_ratio": difference.worst,
        "bound": bound,
        "passed": difference.worst <= bound,
    }


def sentence(parity: Mapping[str, Any]) -> str:
    """A report in one line."""
    verdict = "as it should be" if parity["passed"] else f"warning: MORE than {parity['bound']:.0e} x max(1, largest logit)"
    return (
        f"parity with {parity['reader']}: logits differ by at most {parity['largest_difference']:.1e} on {parity['num_examples']} examples"
        f" ({parity['examples']}; the largest is {parity['largest_logit']:.3g}), {verdict}"
    )
