r"""Sentiment: one text, positive or negative (or any labels).

    python -m flaxft.main --config=configs/sentiment.py --workdir=runs/sentiment \
        --config.task.train=train.jsonl --config.task.validation=validation.jsonl --config.task.test=test.jsonl

Long texts too: `--config.data.max_length=512` reads the first 510 tokens of each; what is cut is counted in the log. `python benchmarks/prepare.py
DATA OUT sentiment reviews` makes the files from the sentence polarity and movie review data of Pang and Lee, which have no published split: it goes
by a hash of the text, 80 / 10 / 10.
"""

from flaxft import encoder
from flaxft.config import Config, Eval
from flaxft.data.pipeline import Data
from flaxft.models.hf import Pretrained
from flaxft.tasks.sequence_classification import SequenceClassification


def get_config():
    return Config(
        task=SequenceClassification(),
        model=Pretrained(path=str(encoder.DIRECTORY)),
        data=Data(batch_size=32, max_length=128),
        evals={"validation": Eval()},
    )
