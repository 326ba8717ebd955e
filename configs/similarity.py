r"""Regression: how alike two sentences are, as a number.

    python -m flaxft.main --config=configs/similarity.py --workdir=runs/similarity --config.model.path=google-bert/bert-base-cased \
        --config.task.train=hub:nyu-mll/glue/stsb --config.task.validation=hub:nyu-mll/glue/stsb

The model learns a score as it is, of STS-B from 0 to 5. Rate and epochs follow from the encoder; `configs/glue.py:stsb` has the recipe of Hugging Face's
run_glue.py. Any CSV, TSV, JSONL or Parquet file with one text or two and a column of numbers will do.

scores: see benchmarks/README.md
"""

from flaxft import encoder
from flaxft.config import Config, Eval
from flaxft.data.pipeline import Data
from flaxft.models.hf import Pretrained
from flaxft.tasks.regression import Regression


def get_config():
    return Config(
        task=Regression(),
        model=Pretrained(path=str(encoder.DIRECTORY)),
        data=Data(batch_size=32, max_length=128),
        evals={"validation": Eval()},
    )
