r"""Sentence embeddings: pairs with a score of how alike they are (STS-B), or texts that shall find those of their own label (BANKING77).

    python -m flaxft.main --config=configs/embed.py --workdir=runs/embed --config.model.path=DIR --config.task.train=train.jsonl \
        --config.task.validation=validation.jsonl --config.task.test=test.jsonl
    python -m flaxft.main --config=configs/embed.py:retrieval --workdir=runs/retrieval --config.model.path=DIR --config.task.train=train.jsonl ...

The first takes pairs with a score: columns sentence1, sentence2 and score, as in Sentence-BERT (arXiv 1908.10084). The second takes texts with a
label (text, label), or pairs that belong together (anchor, positive, and negative where there are hard ones): the rest of a step's texts are the negatives.

scores: with the packaged encoder on two CPU cores, nothing tuned: STS-B test Spearman 0.572, BANKING77 test MRR 0.812; see benchmarks/README.md
"""

from flaxft import encoder
from flaxft.config import Config, Eval
from flaxft.data.pipeline import Data
from flaxft.errors import UserError
from flaxft.models.hf import Pretrained
from flaxft.tasks.sentence_embedding import SentenceEmbedding


def get_config(kind="similarity"):
    if kind not in ("similarity", "retrieval"):
        raise UserError(f"configs/embed.py:{kind}: allowed are similarity and retrieval")
    cfg = Config(
        task=SentenceEmbedding(),
        model=Pretrained(path=str(encoder.DIRECTORY)),
        data=Data(batch_size=16, max_length=128),
        evals={"validation": Eval()},
        num_epochs=4,
    )
    if kind == "retrieval":
        cfg.data = Data(batch_size=128, max_length=64)  # of 77 labels, four texts of five find another one of theirs in a step
        cfg.num_epochs = 3
    return cfg
