r"""Classification of a pair of texts: entailment, paraphrase, whether an answer fits a question.

    python -m flaxft.main --config=configs/pair.py --workdir=runs/pair --config.task.train=train.jsonl --config.task.validation=validation.jsonl \
        --config.task.text_columns=premise,hypothesis --config.task.label_column=label

Rate and epochs follow from the encoder; `configs/glue.py` has the recipe of the old Flax GLUE script (rate 2e-5, batch 32, 3 epochs; 5 for the smallest sets).
Not run here on GLUE, whose data was not at hand; benchmarks/README.md has a run on pairs made from STS-B (similar or not).
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
