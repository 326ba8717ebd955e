r"""The tasks of GLUE with bert-base-cased, each by its name: needs a network that reaches the Hugging Face hub.

    python -m flaxft.main --config=configs/glue.py:sst2 --workdir=runs/sst2

The recipe is that of run_flax_glue.py: texts of up to 128 tokens, batches of 32, 3 epochs (5 for MRPC and WNLI), a rate of 2e-5 that falls to 0, neither
warmup nor weight decay. (Gradients are clipped at norm 1 here, as the PyTorch script does; the Flax one did not clip.)

Published on the dev sets, in the Flax examples' README, best of 5 seeds and mean: CoLA Matthews 60.57, 59.04; SST-2 accuracy 92.66, 92.23; MRPC F1/accuracy
89.90/85.78, 88.97/84.36; STS-B Pearson/Spearman 89.04/88.70, 88.94/88.63; QQP accuracy/F1 90.81/87.58, 90.76/87.51; MNLI matched 84.10, 83.80; QNLI 91.01,
90.82; RTE 66.06, 64.76; WNLI 46.48, 37.01. MNLI mismatched stands only in the PyTorch README, 84.10.
Not run here: no hub was at hand, so there is no score of ours. GLUE's own test sets have no labels; MNLI's second dev set, the mismatched
one, is scored as `test`.
"""

import dataclasses

from flaxft.config import Config, Eval
from flaxft.data.pipeline import Data
from flaxft.errors import UserError, nearest
from flaxft.models.hf import Pretrained
from flaxft.optim import Optim
from flaxft.tasks.regression import Regression
from flaxft.tasks.sequence_classification import SequenceClassification


@dataclasses.dataclass
class Glue:
    columns: tuple[str, ...]
    metric: str = "accuracy"
    num_epochs: float = 3
    validation: str = "validation"
    test: str = ""


TASKS = {
    "cola": Glue(("sentence",), metric="mcc"),
    "sst2": Glue(("sentence",)),
    "mrpc": Glue(("sentence1", "sentence2"), metric="equivalent/f1", num_epochs=5),
    "stsb": Glue(("sentence1", "sentence2"), metric="pearson"),
    "qqp": Glue(("question1", "question2")),
    "mnli": Glue(("premise", "hypothesis"), validation="validation_matched", test="validation_mismatched"),
    "qnli": Glue(("question", "sentence")),
    "rte": Glue(("sentence1", "sentence2")),
    "wnli": Glue(("sentence1", "sentence2"), num_epochs=5),
}


def get_config(name=""):
    if name not in TASKS:
        raise UserError(f"configs/glue.py:{name}: allowed are {', '.join(TASKS)}{nearest(name, TASKS)}, as in --config=configs/glue.py:sst2")
    one = TASKS[name]
    hub = f"hub:nyu-mll/glue/{name}"
    family = Regression if one.metric == "pearson" else SequenceClassification
    return Config(
        task=family(
            train=hub,
            validation=f"{hub}#{one.validation}",
            test=one.test and f"{hub}#{one.test}",
            text_columns=one.columns,
            label_column="label",
            main_metric=one.metric,
        ),
        model=Pretrained(path="google-bert/bert-base-cased"),
        optim=Optim(learning_rate=2e-5, warmup=0.0, weight_decay=0.0),
        data=Data(batch_size=32, max_length=128),
        evals={"validation": Eval()},
        num_epochs=one.num_epochs,
    )
