r"""Multiple choice: which of several answers to a question is right.

    python -m flaxft.main --config=configs/choice.py --workdir=runs/choice --config.model.path=MODEL \
        --config.task.train=train.jsonl --config.task.validation=validation.jsonl --config.task.test=test.jsonl

Records are {"question": ..., "choices": [...], "label": 0}, or as CommonsenseQA or SWAG have them: hub:tau/commonsense_qa and hub:allenai/swag/regular are read
as they are, but for their test splits, which have no labels. batch_size counts questions, each of which has an example for every choice.

scores: see benchmarks/README.md
"""

from flaxft import encoder
from flaxft.config import Config, Eval
from flaxft.data.pipeline import Data
from flaxft.models.hf import Pretrained
from flaxft.tasks.multiple_choice import MultipleChoice


def get_config():
    return Config(
        task=MultipleChoice(),
        model=Pretrained(path=str(encoder.DIRECTORY)),
        data=Data(batch_size=16, max_length=80),
        evals={"validation": Eval()},
    )
