"""The model card of an exported directory: what this run knows, and nothing else."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flaxft import version
from flaxft.export.base import Run
from flaxft.tasks.base import Pools

# The hub's name for what a kind of head does.
PIPELINES = {
    "token": "token-classification",
    "sequence": "text-classification",
    "mean_sequence": "text-classification",
    "span": "question-answering",
    "choice": "multiple-choice",
    "mlm": "fill-mask",
    "embedding": "sentence-similarity",
}
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
LONGEST = 300  # characters of a setting that are shown: a vocabulary is one too


def render(run: Run, parity: Mapping[str, Any], *, dtype: str, stored: str) -> str:
    """README.md: the hub's front matter, and for people what the model is, how it was made and scored, and how far it was checked."""
    parts = [_front_matter(run), _head(run, dtype), _use(run), _scores(run), _limits(run), _parity(parity, stored), _training(run)]
    return "\n".join(part for part in parts if part)


def _front_matter(run: Run) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    predictor, task = run.predictor, run.predictor.task
    base = _base(run)
    results = []
    for split, metrics in run.metrics.items():
        where = run.splits.get(split, "")
        for name, value in _main(metrics).items():
            data_set = _data_set(where)
            results.append(
                EvalResult(
                    task_type=PIPELINES.get(task.kind, task.kind), dataset_type=data_set, dataset_name=data_set, dataset_split=split,
                    metric_type=name, metric_name=name, metric_value=round(value, 4),
                )
            )  # fmt: skip
    named = sorted({_data_set(path) for path in run.splits.values() if path.startswith("hub:")})
    is_st, is_dense = isinstance(task, Pools), task.kind == "mean_sequence"
    data = ModelCardData(
        language=_language(run),
        library_name="sentence-transformers" if is_st or is_dense else "transformers",
        pipeline_tag=PIPELINES.get(task.kind),
        tags=["flaxft", predictor.encoder.prefix, *(["sentence-transformers", "feature-extraction"] if is_st else [])],
        base_model=base if HUB_ID.fullmatch(base) and not _is_here(run) else None,
        datasets=named or None,
        model_name=_title(run),
        eval_results=results or None,
    )
    return f"---\n{data.to_yaml().strip()}\n---\n"


def _head(run: Run, dtype: str) -> str:
    task = run.predictor.task
    labels = f" Its labels are {', '.join(f'`{label}`' for label in task.labels)}." if 0 < len(task.labels) <= 30 else ""
    labels = labels or (f" It has {len(task.labels)} labels, named in `config.json`." if task.labels else "")
    state = "" if run.results else "\n\n**The run was not finished when this was exported: these are its best weights so far.**"
    return (
        f"# {_title(run)}\n\nA {run.predictor.encoder.prefix} encoder, `{_base(run)}`, fine-tuned for {_words(task.kind)} with flaxft {version.VERSION}"
        f" (JAX).{labels} Weights of step {run.predictor.step}, in {dtype}.{state}\n"
    )


def _use(run: Run) -> str:
    kind, note = run.predictor.task.kind, ""
    if isinstance(run.predictor.task, Pools):
        lines = ["from sentence_transformers import SentenceTransformer", "", 'vectors = SentenceTransformer("DIRECTORY").encode(["a text", "another"])']
        note = "\ntransformers says that a pooler is missing; none was trained, and none is used.\n"
    elif kind in ("token", "sequence", "mlm"):
        extra = {"token": ', aggregation_strategy="first"', "sequence": ", top_k=None"}.get(kind, "")
        lines = ["from transformers import pipeline", "", f'print(pipeline("{PIPELINES[kind]}", "DIRECTORY"{extra})("a text"))']
    elif kind == "mean_sequence":
        lines = [
            "from sentence_transformers import SentenceTransformer",
            "",
            'model = SentenceTransformer("DIRECTORY")',
            'logits = model.encode(["a text", "another"])  # (2, labels), in the order of id2label in config.json',
        ]
        note = """
With transformers alone, which has no class for this head (`AutoModelForSequenceClassification` would make a new one, and say so in a warning):

```python
import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer

tokenizer, model = AutoTokenizer.from_pretrained("DIRECTORY"), AutoModel.from_pretrained("DIRECTORY").eval()
dense = load_file("DIRECTORY/2_Dense/model.safetensors")
given = tokenizer(["a text", "another"], padding=True, truncation=True, return_tensors="pt")
mask = given["attention_mask"][..., None]
with torch.no_grad():
    mean = (model(**given).last_hidden_state * mask).sum(1) / mask.sum(1)
    logits = torch.nn.functional.linear(mean, dense["linear.weight"], dense["linear.bias"])
```
"""
    else:
        name = {"span": "AutoModelForQuestionAnswering", "choice": "AutoModelForMultipleChoice"}[kind]
        lines = [
            f"from transformers import AutoTokenizer, {name}",
            "",
            'tokenizer = AutoTokenizer.from_pretrained("DIRECTORY")',
            f'model = {name}.from_pretrained("DIRECTORY")',
        ]
    return "## Use\n\n```python\n" + "\n".join(lines) + "\n```\n" + note


def _scores(run: Run) -> str:
    rows = []
    for split, metrics in run.metrics.items():
        for name, value in _main(metrics).items():
            interval = f"{metrics[f'{name}/low']:.4f} to {metrics[f'{name}/high']:.4f}" if f"{name}/low" in metrics else ""
            rows.append(f"| {split} | {_data_set(run.splits.get(split, ''))} | {name} | {value:.4f} | {interval} |")
    if not rows:
        return "## Scores\n\nNone: the run has no results of these weights.\n"
    return "## Scores\n\n| split | data | metric | value | 95 % interval |\n|---|---|---|---|---|\n" + "\n".join(rows) + "\n"


def _limits(run: Run) -> str:
    predictor = run.predictor
    data = run.config.get("data", {})
    most, positions = data.get("max_length", predictor.data.max_length), predictor.encoder.max_length
    lines = [f"* A text longer than {most} tokens was cut or split into windows in training; the model has {positions} positions."]
    if predictor.calibration:
        numbers = ", ".join(f"{name} {value:.4g}" for name, value in predictor.calibration.items())
        lines.append(f"* The scores above were computed with numbers that were fitted on validation and are not in the weights ({numbers}; `export.json`).")
    if data.get("max_examples") is not None:
        lines.append(f"* Only the first {data['max_examples']} records of each split were used.")
    lines.append("* What the model was not tested on is not known: the data that it was trained on says what it can do.")
    return "## Limits\n\n" + "\n".join(lines) + "\n"


def _parity(parity: Mapping[str, Any], stored: str) -> str:
    verdict = "within" if parity["passed"] else "**outside of**"
    rounding = f" Rounding the weights moved logits by at most {parity['rounding']:.2e}." if "rounding" in parity else ""
    tokenizer = parity["tokenizer"]
    return (
        f"## Parity\n\n`{parity['class']}` of {parity['reader']}, reading this directory in float32, gives the logits that flaxft gives: the largest"
        f" difference is {parity['largest_difference']:.2e} over {parity['num_examples']} examples ({parity['examples']}), {verdict} the bound of"
        f" {parity['bound']:.0e} x max(1, largest logit of the example).{rounding}"
        f" The tokenizer gave other pieces for {tokenizer['num_different']} of {tokenizer['num_texts']} texts."
        f" `{stored}` holds inputs and logits of {parity['stored_examples']} examples of random pieces, to check it elsewhere.\n"
    )


def _training(run: Run) -> str:
    results = run.results
    told = [f"{results['steps']} steps" if "steps" in results else "", f"seed {run.config['seed']}" if "seed" in run.config else ""]
    config = json.dumps(shown(run.config), indent=1, ensure_ascii=False)
    return (
        f"## Training\n\n{', '.join(one for one in told if one)}. `python -m flaxft.main --config=FILE`, with this config (folders are left out of names):\n\n"
        f"<details><summary>config.json of the run</summary>\n\n```json\n{config}\n```\n\n</details>\n"
    )


def shown(value: Any) -> Any:
    """A config as strangers may read it: of paths the last part, of long texts the beginning."""
    if isinstance(value, dict):
        return {key: shown(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [shown(one) for one in value]
    if isinstance(value, str):
        short = os.path.basename(value.rstrip("/")) if os.path.isabs(value) or value.startswith(("~", "..")) else value
        return short if len(short) <= LONGEST else f"{short[:LONGEST]}..."
    return value


# ---- words --------------------------------------------------------------------------------------------------------------------------------------


def _base(run: Run) -> str:
    """The model that the run began with: a hub id, or the folder's name."""
    path = str(run.config.get("model", {}).get("path", "")) or "unknown"
    if Path(path).parts[-2:] == ("flaxft", "encoder"):
        return "flaxft/encoder"  # the one that comes with the package, wherever it lies
    return path if HUB_ID.fullmatch(path) and not _is_here(run) else Path(path).name


def _is_here(run: Run) -> bool:
    path = str(run.config.get("model", {}).get("path", ""))
    return os.path.isdir(os.path.expanduser(path)) or os.path.isabs(path)


def _title(run: Run) -> str:
    name = run.workdir.absolute().name
    return f"{name}-{run.task}" if run.task else name


def _language(run: Run) -> str | None:
    """What the pretrained model's own config says."""
    config = json.loads((run.predictor.model / "config.json").read_text(encoding="utf-8"))
    language = config.get("language")
    return language if isinstance(language, str) and re.fullmatch(r"[a-z]{2,3}", language) else None


def _data_set(path: str) -> str:
    """`conll2003` of hub:conll2003#test; of a file its name."""
    if path.startswith("hub:"):
        return re.split(r"[@#]", path.removeprefix("hub:"))[0]
    return Path(path).name or "unknown"


def _main(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if "/" not in name and not name.startswith("num_")}


def _words(kind: str) -> str:
    return PIPELINES.get(kind, kind).replace("-", " ")
