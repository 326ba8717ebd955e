"""Intent classification: one text, one of many labels."""

from flaxft.config import Config, Eval
from flaxft.data.pipeline import Data
from flaxft.models.hf import Pretrained
from flaxft.optim import Optim
from flaxft.tasks.sequence_classification import SequenceClassification


def get_config():
    return Config(
        task=SequenceClassification(train="", validation="", test=""),
        model=Pretrained(path=""),
        optim=Optim(learning_rate=5e-5, warmup=0.1),
        data=Data(batch_size=32, max_length=64),
        evals={"validation": Eval()},
        num_epochs=3,
    )
