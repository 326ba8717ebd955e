"""Named entity recognition with a BERT encoder.

    python -m flaxft.main --config=configs/ner.py

As it stands it fine-tunes the package's small pretrained encoder on the package's small corpus, to show that the machinery works.
"""

from flaxft import demo, encoder
from flaxft.config import Config, Eval
from flaxft.data.base import Packaged
from flaxft.data.pipeline import Data
from flaxft.models.hf import Pretrained
from flaxft.tasks.token_classification import TokenClassification


def get_config():
    return Config(
        task=TokenClassification(train=Packaged(demo.TRAIN), validation=Packaged(demo.VALIDATION), test=Packaged(demo.TEST)),
        model=Pretrained(path=str(encoder.DIRECTORY)),
        data=Data(batch_size=32, max_length=128),
        evals={"validation": Eval()},
    )
