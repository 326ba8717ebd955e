r"""Intent classification: one text, one of many labels.

    python -m flaxft.main --config=configs/intent.py --workdir=runs/intent --config.model.path=sentence-transformers/all-MiniLM-L6-v2 \
        --config.task.train=train.csv.gz --config.task.test=test.csv.gz

Rate, epochs and pooling follow from the encoder. With 5,000 of BANKING77's 10,003 training texts (77 intents), of which a tenth is kept for validation, on 2
shared CPU cores: test accuracy 0.91 with MiniLM, 0.86 with the packaged encoder, 0.89 by TF-IDF with logistic regression; see benchmarks/README.md.
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
        data=Data(batch_size=32, max_length=64),
        evals={"validation": Eval()},
    )
