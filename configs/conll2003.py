r"""CoNLL-2003, English named entities, with bert-base-cased: needs a network that reaches the Hugging Face hub.

    python -m flaxft.main --config=configs/conll2003.py --workdir=runs/conll2003

The recipe is that of the BERT-NER repository (github.com/kamalkraj/BERT-NER): sentences of up to 128 tokens, batches of 32, 5 epochs, a rate of 5e-5 with a
tenth of the steps as warmup. Its README gives entity F1 94.95 on dev and 91.35 on test. Not run here: no hub was at hand, so there is no score of ours.
The old run_flax_ner.py took a rate of 2e-5 for 3 epochs, and published no score.
"""

from flaxft.config import Config, Eval
from flaxft.data.pipeline import Data
from flaxft.models.hf import Pretrained
from flaxft.optim import Optim
from flaxft.tasks.token_classification import TokenClassification

DATA = "hub:lhoestq/conll2003"  # eriktks/conll2003 without the script that `datasets` no longer runs


def get_config():
    return Config(
        task=TokenClassification(train=DATA, validation=DATA, test=DATA, label_column="ner_tags"),
        model=Pretrained(path="google-bert/bert-base-cased"),
        optim=Optim(learning_rate=5e-5, warmup=0.1),
        data=Data(batch_size=32, max_length=128),
        evals={"validation": Eval()},
        num_epochs=5,
    )
