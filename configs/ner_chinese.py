r"""Named entity recognition in Chinese, where each character is a word.

    python -m flaxft.main --config=configs/ner_chinese.py --workdir=runs/ner-zh \
        --config.task.train=train.jsonl --config.task.validation=validation.jsonl --config.task.test=test.jsonl

Records are `{"tokens": ["科", "技", ...], "ner_tags": ["O", "B-ORG.NAM", ...]}`, as `python benchmarks/prepare.py DATA OUT ner_chinese` makes them from
Weibo NER, or column files, one character and its tag a line. The encoder is bert-base-chinese, from the hub; it was not at hand here, so no score is
given.
"""

from flaxft.config import Config, Eval
from flaxft.data.pipeline import Data
from flaxft.models.hf import Pretrained
from flaxft.optim import Optim
from flaxft.tasks.token_classification import TokenClassification


def get_config():
    return Config(
        task=TokenClassification(),
        model=Pretrained(path="google-bert/bert-base-chinese"),
        optim=Optim(learning_rate=3e-5, warmup=0.1),
        data=Data(batch_size=32, max_length=256),
        evals={"validation": Eval()},
        num_epochs=5,
    )
