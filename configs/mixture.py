r"""Entities, intent and sentiment from one encoder: three tasks in one run, each with a head of its own.

    python -m flaxft.main --config=configs/mixture.py --workdir=runs/mixture --config.model.path=sentence-transformers/all-MiniLM-L6-v2 \
        --config.task.tasks.ner.train=train.conll --config.task.tasks.intent.train=train.csv --config.task.tasks.sentiment.train=train.jsonl

A step of 32 examples holds each task's share of them: examples ** (1 / temperature). `--mode=predict` on raw text asks all three; a line
{"task": "intent", "text": "..."} of a .jsonl file asks one. `flaxft.load("runs/mixture").only("intent").save_pretrained("intent")` is a model for PyTorch.

scores: see benchmarks/README.md
"""

from flaxft import encoder
from flaxft.config import Config, Eval
from flaxft.data.pipeline import Data
from flaxft.models.hf import Pretrained
from flaxft.tasks.mixture import Mixture
from flaxft.tasks.sequence_classification import SequenceClassification
from flaxft.tasks.token_classification import TokenClassification


def get_config():
    tasks = {"ner": TokenClassification(train=""), "intent": SequenceClassification(train=""), "sentiment": SequenceClassification(train="")}
    return Config(
        task=Mixture(tasks=tasks, temperature=2.0),
        model=Pretrained(path=str(encoder.DIRECTORY)),
        data=Data(batch_size=32, max_length=128),
        evals={"validation": Eval()},
    )
