r"""Multi-label classification: which emotions a text shows, none included.

    python -m flaxft.main --config=configs/emotions.py --workdir=runs/emotions --config.model.path=google-bert/bert-base-cased \
        --config.task.train=hub:google-research-datasets/go_emotions/simplified --config.task.validation=hub:google-research-datasets/go_emotions/simplified \
        --config.task.test=hub:google-research-datasets/go_emotions/simplified

Rate and epochs follow from the encoder. GoEmotions' paper (arXiv 2005.00547) has BERT base, batches of 16, 4 epochs and a rate of 5e-5, which are flags
(`--config.num_epochs=4`), and reports macro F1, 0.46 on test.
Labels are a list in JSONL and Parquet, a cell such as "joy,pride" in CSV, or a 0-1 column per label (`task.label_columns`). The threshold of each label is
tuned on the validation split; `--config.task.threshold=0.3` takes 0.3 for all of them.

scores: see benchmarks/README.md
"""

from flaxft import encoder
from flaxft.config import Config, Eval
from flaxft.data.pipeline import Data
from flaxft.models.hf import Pretrained
from flaxft.tasks.multilabel_classification import MultiLabelClassification


def get_config():
    return Config(
        task=MultiLabelClassification(),
        model=Pretrained(path=str(encoder.DIRECTORY)),
        data=Data(batch_size=16, max_length=64),
        evals={"validation": Eval()},
    )
