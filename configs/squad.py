r"""Extractive question answering: the answer is a span of the context, or there is none.

    python -m flaxft.main --config=configs/squad.py --workdir=runs/squad --config.model.path=google-bert/bert-base-uncased \
        --config.task.train=train-v1.1.json --config.task.validation=dev-v1.1.json

Files in SQuAD's own layout, JSONL, or the hub's: --config.task.train=hub:rajpurkar/squad_v2. Questions without an answer (SQuAD 2.0) are noticed, and the
threshold for them is fitted on the validation split. predictions/validation/predictions.json is what the official script scores. CMRC 2018, for Chinese:
--config.task.script=cmrc and bert-base-chinese. Batches of 12 are those of the SQuAD command in BERT's
own repository; rate and epochs follow from the encoder.
scores: benchmarks/README.md has a short run of the packaged encoder (F1 10 after one epoch of 1,400 questions); none of a useful size yet
"""

from flaxft import encoder
from flaxft.config import Config, Eval
from flaxft.data.pipeline import Data
from flaxft.models.hf import Pretrained
from flaxft.tasks.question_answering import QuestionAnswering


def get_config():
    return Config(
        task=QuestionAnswering(),
        model=Pretrained(path=str(encoder.DIRECTORY)),
        data=Data(batch_size=12, max_length=384),
        evals={"validation": Eval()},
    )
