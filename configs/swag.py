r"""SWAG, which of four endings goes on from a sentence, with bert-base-uncased: needs a network that reaches the Hugging Face hub.

    python -m flaxft.main --config=configs/swag.py --workdir=runs/swag

The recipe is that of BERT's paper (arXiv 1810.04805, section 4.4): batches of 16 questions, 3 epochs, a rate of 2e-5. It reports an accuracy of 81.6 on dev for
BERT base; run_swag.py's README gives 83.39 for roberta-base, which is another family. Not run here: no hub was at hand, so there is no score of ours.
"""

from flaxft.config import Config, Eval
from flaxft.data.pipeline import Data
from flaxft.models.hf import Pretrained
from flaxft.optim import Optim
from flaxft.tasks.multiple_choice import MultipleChoice

DATA = "hub:allenai/swag/regular"  # its test split has no labels


def get_config():
    return Config(
        task=MultipleChoice(train=DATA, validation=DATA),
        model=Pretrained(path="google-bert/bert-base-uncased"),
        optim=Optim(learning_rate=2e-5, warmup=0.1),
        data=Data(batch_size=16, max_length=80),
        evals={"validation": Eval()},
        num_epochs=3,
    )
