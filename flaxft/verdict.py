"""Whether a run is good, and if not, why and what to try: a few rules, each a function of what was observed."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

FEW = 10  # examples of a label, below which it is hardly learnt
NEAR_GUESSING = 0.8  # of the loss of guessing: whoever ends above has learnt little, unless no simple way does better either
HIGH = 0.35  # of the loss of guessing: below, a loss that falls still is no sign of a run that is too short
FALLING = 0.1  # of the loss, over the last quarter of the run
ENOUGH_STEPS = 40  # for a fall to be told from the noise of the batches
FAR_BELOW = 0.5  # training loss / validation loss of a run that knows its examples by heart
WORSE = 0.02  # of the best score, by which the last one lies behind it
MUCH = 0.01  # of a split: records that are cut, or seen in training
MOST = 0.8  # of all records: the share of a label from which on an accuracy says little
DOMINANT = 0.45  # an accuracy of the majority from which on it may pass for one of the model
DOMINATED = 0.1  # of the way from the majority's score to 1, that an accuracy came
SMALL = 384  # hidden size of MiniLM, which is larger than the packaged encoder and still runs on a laptop
LARGER = "--config.model.path=sentence-transformers/all-MiniLM-L6-v2"
SHOWN = 3  # labels that a line names


class Finding(NamedTuple):
    """One thing that is not as it should be."""

    rule: str
    line: str  # what was seen, in numbers, and why it matters
    flag: str  # what to try, to be pasted; empty where it is no flag


@dataclasses.dataclass(frozen=True)
class Observations:
    """What a run, or a look at its inputs, has shown. What is not known is left at its default, and no rule speaks of it."""

    main_metric: str = ""  # "-loss" where smaller is better
    scores: Mapping[str, Mapping[str, float]] = dataclasses.field(default_factory=dict)  # split -> metric -> value, of the weights that are kept
    baselines: Mapping[str, Mapping[str, Mapping[str, float]]] = dataclasses.field(default_factory=dict)  # split -> name -> metric -> value
    losses: Sequence[float] = ()  # of the training steps, in order
    evals: Sequence[tuple[int, Mapping[str, float]]] = ()  # of the split that picks the best step: step, metric -> value
    guess_loss: float | None = None  # the loss of who knows the shares of the labels alone
    learning_rate: float | None = None
    band: tuple[float, float] | None = None  # of rates that encoders of this size are fine-tuned with
    hidden_size: int | None = None
    is_packaged: bool = False  # the encoder is the one that comes with flaxft
    label_counts: Mapping[str, int] = dataclasses.field(default_factory=dict)  # of the train split
    noun: str = "labels"
    num_seen: Mapping[str, tuple[int, int]] = dataclasses.field(default_factory=dict)  # split -> records that are in train too, and all
    num_cut: Mapping[str, tuple[int, int, int]] = dataclasses.field(default_factory=dict)  # split -> cut records, all, tokens of the longest
    max_length: int = 0
    max_positions: int = 0  # of the encoder
    batch_size: int = 0
    num_examples: int = 0  # of the train split
    steps_per_epoch: int = 0
    num_epochs: float = 0.0
    num_steps: int | None = None  # where the config says steps, not epochs
    fields: frozenset[str] = frozenset()  # names of the task's settings that are not set

    @property
    def metric(self) -> str:
        return self.main_metric.removeprefix("-")

    @property
    def rises(self) -> bool:
        """Whether more of the main metric is better."""
        return self.metric == self.main_metric

    @property
    def judged(self) -> str:
        """The split whose score is looked at: test, or else the first that is not train."""
        names = [name for name in self.scores if name != "train"]
        return "test" if "test" in names else names[0] if names else ""

    def score(self) -> float | None:
        return self.scores.get(self.judged, {}).get(self.metric)

    def best_baseline(self) -> tuple[str, float] | None:
        """Name and score of the best of the baselines, on the split that is looked at."""
        found = [(name, metrics[self.metric]) for name, metrics in self.baselines.get(self.judged, {}).items() if self.metric in metrics]
        return max(found, key=lambda one: one[1] if self.rises else -one[1], default=None)

    def is_better(self, one: float, other: float) -> bool:
        return one > other if self.rises else one < other


def verdict(seen: Observations) -> list[Finding]:
    """Everything that a rule finds about a run, what should be mended first coming first."""
    return [found for rule in RULES if (found := rule(seen)) is not None]


def foresight(seen: Observations) -> list[Finding]:
    """What is known before the first step, beside overlaps and cut texts, of which every start warns."""
    return [found for rule in (rate_outside_band, large_batch, rare_labels, imbalance) if (found := rule(seen)) is not None]


def contented(seen: Observations) -> str:
    """What is said where no rule finds anything: the numbers that say so."""
    score, best = seen.score(), seen.best_baseline()
    parts = []
    if score is not None:
        parts.append(f"{seen.judged} {seen.metric} {score:.4f}" + (f" beside {best[1]:.4f} of {best[0]}" if best else ""))
    if seen.losses:
        last = seen.evals[-1][1].get("loss") if seen.evals else None
        guess = "" if seen.guess_loss is None else f" (guessing: {seen.guess_loss:.3g})"
        parts.append(f"training loss {_end(seen):.3g}{guess}" + (f", validation loss {last:.3g}" if last is not None else ""))
    if seen.band and seen.learning_rate is not None:
        parts.append(f"rate {seen.learning_rate:g} within {seen.band[0]:g} to {seen.band[1]:g}")
    return "nothing to mend: " + "; ".join(parts) if parts else "nothing to mend"


# ---- the rules ------------------------------------------------------------------------------------------------------------------------------------


def rate_outside_band(seen: Observations) -> Finding | None:
    """The learning rate is one that encoders of this size do not learn with."""
    if seen.band is None or not seen.learning_rate:
        return None
    low, high = seen.band
    if low <= seen.learning_rate <= high:
        return None
    side, so = ("below", "the weights hardly move") if seen.learning_rate < low else ("above", "training is thrown about and forgets what the encoder knew")
    size = f"an encoder of hidden size {seen.hidden_size}" if seen.hidden_size else "this encoder"
    return Finding("rate", f"learning rate {seen.learning_rate:g} is {side} what {size} is fine-tuned with ({low:g} to {high:g}): {so}", _rate_flag(seen.band))


def underfit(seen: Observations) -> Finding | None:
    """The training loss is near that of guessing, or has far to go and still falls."""
    if len(seen.losses) < 4:
        return None
    end = _end(seen)
    guess = seen.guess_loss if seen.guess_loss else _mean(seen.losses[: max(1, len(seen.losses) // 20)])
    score, best = seen.score(), seen.best_baseline()
    is_hard = score is not None and best is not None and seen.is_better(score, best[1])
    if seen.guess_loss and end > NEAR_GUESSING * seen.guess_loss and not is_hard:
        what = f"training loss {end:.3g} at the end, and {guess:.3g} is what guessing by the labels' shares has: little was learnt"
        return Finding("underfit", what, _more_flag(seen))
    before_end = seen.losses[len(seen.losses) * 65 // 100 : len(seen.losses) * 80 // 100]
    before, noise = _mean(before_end), 2 * math.hypot(_error(before_end), _error(_last(seen)))
    if len(seen.losses) >= ENOUGH_STEPS and end > HIGH * guess and end < (1 - FALLING) * before - noise and not _is_behind(seen):
        what = f"training loss {end:.3g} at the end, {before:.3g} a quarter of the run before: it still falls, and more training may do better"
        return Finding("underfit", what, _more_flag(seen))
    return None


def overfit(seen: Observations) -> Finding | None:
    """The training loss is far below validation's, and the last validation score behind the best."""
    scored = [(step, metrics[seen.metric]) for step, metrics in seen.evals if seen.metric in metrics]
    last_loss = seen.evals[-1][1].get("loss") if seen.evals else None
    if len(scored) < 2 or not seen.losses or last_loss is None:
        return None
    step, best = max(scored, key=lambda one: one[1] if seen.rises else -one[1])
    last = scored[-1][1]
    behind = abs(best - last) / max(abs(best), 1e-9) * (1 if seen.rises else 0.2)  # a loss rises faster than scores fall
    end = _end(seen)
    if end > FAR_BELOW * last_loss or not seen.is_better(best, last) or behind < WORSE:
        return None
    what = f"training loss {end:.3g}, validation loss {last_loss:.3g}; validation {seen.metric} was {best:.4f} at step {step} and is {last:.4f} at the end"
    epochs = math.ceil(step / seen.steps_per_epoch) if seen.steps_per_epoch else 0
    shorter = seen.num_steps is None and 0 < epochs < seen.num_epochs
    flag = f"--config.num_epochs={epochs}" if shorter else "--config.evals.validation.patience=2"
    return Finding("overfit", f"{what}: what came later was learnt by heart (step {step} is kept)", flag)


def below_baseline(seen: Observations) -> Finding | None:
    """Something far simpler does better."""
    score, best = seen.score(), seen.best_baseline()
    if score is None or best is None or not seen.is_better(best[1], score):
        return None
    what = f"{seen.judged} {seen.metric} {score:.4f}, but {best[0]} has {best[1]:.4f}: something far simpler does better"
    if seen.is_packaged or (seen.hidden_size or SMALL) < SMALL:
        encoder = "the packaged encoder is a small one" if seen.is_packaged else f"an encoder of hidden size {seen.hidden_size} is a small one"
        return Finding("below_baseline", f"{what}; {encoder}", LARGER)
    return Finding("below_baseline", what, _more_flag(seen))


def dominated(seen: Observations) -> Finding | None:
    """An accuracy that is the share of the most frequent label."""
    scores, baselines = seen.scores.get(seen.judged, {}), seen.baselines.get(seen.judged, {})
    score, macro = seen.score(), scores.get("macro_f1")
    simplest = next(iter(baselines.values()), {}).get(seen.metric)
    if score is None or macro is None or simplest is None or seen.metric not in ("accuracy", "micro_f1"):
        return None
    if simplest < DOMINANT or score - simplest > DOMINATED * (1 - simplest) or macro > 0.75 * score:
        return None
    what = f"{seen.judged} {seen.metric} {score:.4f} is about the share of the most frequent label ({simplest:.4f}), and macro F1 is {macro:.4f}"
    balance = "--config.task.class_weights=balanced" if "class_weights" in seen.fields else "--config.task.main_metric=macro_f1"
    return Finding("dominated", f"{what}: the other labels are hardly found", balance)


def rare_labels(seen: Observations) -> Finding | None:
    """Labels with fewer than ten examples."""
    rare = sorted((count, label) for label, count in seen.label_counts.items() if count < FEW)
    if not rare:
        return None
    shown = ", ".join(f"{label} {count}" for count, label in rare[:SHOWN]) + (", ..." if len(rare) > SHOWN else "")
    what = f"{len(rare)} of {len(seen.label_counts)} {seen.noun} with fewer than {FEW} examples in train ({shown}): hardly learnt; add examples"
    weights = next((name for name in ("class_weights", "positive_weights") if name in seen.fields), None)
    return Finding("rare_labels", what, f"--config.task.{weights}=balanced" if weights else "")


def imbalance(seen: Observations) -> Finding | None:
    """One label that most records have, where the metric is the share of right answers."""
    total, most = sum(seen.label_counts.values()), max(seen.label_counts.values(), default=0)
    if seen.metric not in ("accuracy", "micro_f1") or len(seen.label_counts) < 2 or most < MOST * total:
        return None
    label = max(seen.label_counts, key=lambda label: seen.label_counts[label])
    what = f"{label!r} is {most / total:.0%} of all {seen.noun} in train: who always answers so has that {seen.metric}"
    return Finding("imbalance", what, "--config.task.main_metric=macro_f1" if seen.noun == "labels" else "")


def overlap(seen: Observations) -> Finding | None:
    """Records that are in train and in another split."""
    found = {name: (num, total) for name, (num, total) in seen.num_seen.items() if num > MUCH * total}
    if not found:
        return None
    what = ", ".join(f"{num:,} of {total:,} records of {name}" for name, (num, total) in found.items())
    return Finding("overlap", f"{what} are in train too: that score says nothing of new text; take them out of the train file", "")


def cut_texts(seen: Observations) -> Finding | None:
    """Texts that are longer than what is read of them."""
    found = {name: one for name, one in seen.num_cut.items() if one[0] > MUCH * one[1]}
    if not found:
        return None
    longest = max(one[2] for one in found.values())
    what = ", ".join(f"{num:,} of {total:,} records of {name}" for name, (num, total, _) in found.items())
    line = f"{what} are cut at {seen.max_length} tokens (the longest has {longest:,}): the rest is not read"
    length = min(-(-longest // 8) * 8, seen.max_positions)
    both_ends = "--config.task.long_text=head_tail" if "long_text" in seen.fields else ""
    if length <= seen.max_length and both_ends:
        return Finding("cut_texts", f"{line}, and the encoder has no more positions; read both ends, or windows of the text", both_ends)
    if length <= seen.max_length:
        return Finding("cut_texts", f"{line}, and the encoder has no more positions; split the texts, or put first what matters", "")
    return Finding("cut_texts", line, " or ".join(filter(None, [f"--config.data.max_length={length}", both_ends])))


def large_batch(seen: Observations) -> Finding | None:
    """A step that is the whole train split."""
    if not seen.num_examples or seen.batch_size <= max(32, seen.num_examples // 2):
        return None
    what = f"a step of {seen.batch_size:,} examples is most of the {seen.num_examples:,} that there are: so few steps an epoch learn little"
    return Finding("large_batch", what, "--config.data.batch_size=32")


RULES: tuple[Callable[[Observations], Finding | None], ...] = (
    rate_outside_band, underfit, overfit, below_baseline, dominated, large_batch, rare_labels, overlap, cut_texts,
)  # fmt: skip


# ---- numbers and flags ----------------------------------------------------------------------------------------------------------------------------


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / max(1, len(values))


def _end(seen: Observations) -> float:
    """The training loss of the last tenth of the run."""
    return _mean(_last(seen))


def _last(seen: Observations) -> Sequence[float]:
    return seen.losses[-max(1, len(seen.losses) // 10) :]


def _error(values: Sequence[float]) -> float:
    """The standard error of the mean."""
    mean = _mean(values)
    return math.sqrt(math.fsum((one - mean) ** 2 for one in values) / max(1, len(values) - 1) / max(1, len(values)))


def _is_behind(seen: Observations) -> bool:
    """Whether the last evaluation is worse than one before: then more training is of no use, whatever the training loss does."""
    values = [metrics[seen.metric] for _, metrics in seen.evals if seen.metric in metrics]
    return any(seen.is_better(one, values[-1]) for one in values[:-1])


def _rate_flag(band: tuple[float, float]) -> str:
    """The middle of the band, to one digit."""
    return f"--config.optim.learning_rate={float(f'{math.sqrt(band[0] * band[1]):.0e}'):g}"


def _more_flag(seen: Observations) -> str:
    """A higher rate, where there is room for it; else twice as long."""
    if seen.band and seen.learning_rate is not None and not math.sqrt(seen.band[0] * seen.band[1]) * 0.8 <= seen.learning_rate <= seen.band[1]:
        return _rate_flag(seen.band)
    if seen.num_steps is not None:
        return f"--config.num_steps={2 * seen.num_steps}"
    return f"--config.num_epochs={2 * seen.num_epochs:g}"
