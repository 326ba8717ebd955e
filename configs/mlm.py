r"""Masked language model: pretrain an encoder, or continue one on your own text.

    python -m flaxft.main --config=configs/mlm.py --workdir=runs/mlm --config.task.train=my.txt --config.task.validation=held_out.txt
    python -m flaxft.main --config=configs/mlm.py:scratch --workdir=runs/scratch --config.model.path=DIR --config.task.train=train.jsonl \
        --config.task.validation=validation.jsonl

The first continues the packaged encoder, or any other (`--config.model.path`), on a text file, one text a line. The second pretrains: DIR holds a
config.json, a tokenizer and weights to begin with, as `python -m flaxft.encoder.make start` writes them. flaxft/encoder/README.md tells how the
packaged encoder was made so.
"""

from flaxft import encoder
from flaxft.config import Config, Eval
from flaxft.data.pipeline import Data
from flaxft.errors import UserError
from flaxft.models.hf import Pretrained
from flaxft.optim import Optim
from flaxft.tasks.masked_lm import MaskedLm


def get_config(start="continue"):
    if start not in ("continue", "scratch"):
        raise UserError(f"configs/mlm.py:{start}: allowed are continue and scratch")
    cfg = Config(
        task=MaskedLm(),
        model=Pretrained(path=str(encoder.DIRECTORY)),
        optim=Optim(learning_rate=5e-5, warmup=0.06),
        data=Data(batch_size=32, max_length=128),
        evals={"validation": Eval()},
        num_epochs=3,
    )
    if start == "scratch":
        # No dropout: no text is seen twice in a short run. The rate is that of such runs (Geiping and Goldstein 2022, arXiv 2212.14034).
        cfg.model = Pretrained(path="", dtype="bfloat16", hidden_dropout=0.0, attention_dropout=0.0)
        cfg.optim = Optim(learning_rate=1e-3, warmup=0.04, b2=0.98, eps=1e-6)
        cfg.data = Data(batch_size=32, max_length=128, eval_tokens=8192)
        cfg.evals = {"validation": Eval(every=1000)}
        cfg.num_epochs = 1
    return cfg
