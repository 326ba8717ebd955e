r"""SQuAD 1.1 with bert-base-uncased: needs a network that reaches the Hugging Face hub. configs/squad.py is for files.

    python -m flaxft.main --config=configs/squad_hub.py --workdir=runs/squad

The recipe is that of run_qa.py's README: windows of 384 tokens that share 128, batches of 12, 2 epochs, a rate of 3e-5 that falls to 0, neither warmup nor
weight decay. Published on dev: F1 88.52 and exact match 81.22 in the PyTorch README, 88.62 and 81.34 in the Flax one. Not run here: no hub was at hand, so
there is no score of ours. SQuAD 2.0: --config.task.train=hub:rajpurkar/squad_v2 --config.task.validation=hub:rajpurkar/squad_v2
"""

from flaxft.config import Config, Eval
from flaxft.data.pipeline import Data
from flaxft.models.hf import Pretrained
from flaxft.optim import Optim
from flaxft.tasks.question_answering import QuestionAnswering

DATA = "hub:rajpurkar/squad"  # its test split is kept by the authors


def get_config():
    return Config(
        task=QuestionAnswering(train=DATA, validation=DATA, stride=128),
        model=Pretrained(path="google-bert/bert-base-uncased"),
        optim=Optim(learning_rate=3e-5, warmup=0.0, weight_decay=0.0),
        data=Data(batch_size=12, max_length=384),
        evals={"validation": Eval()},
        num_epochs=2,
    )
