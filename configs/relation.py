r"""Relation classification: which relation holds between two entities of a sentence, and in which direction.

    python -m flaxft.main --config=configs/relation.py --workdir=runs/relation --config.model.path=MODEL \
        --config.task.train=train.jsonl --config.task.validation=validation.jsonl --config.task.test=test.jsonl

Records are as SemEval-2010 task 8 has them, {"sentence": "The <e1>child</e1> was wrapped into the <e2>cradle</e2>.", "relation": "Entity-Destination(e1,e2)"},
or with columns e1 and e2 that say where the entities stand. hub:SemEvalWorkshop/sem_eval_2010_task_8 is read as it is. What the official scorer reads is
written to predictions/<split>/answers.txt.

scores: see benchmarks/README.md
"""

from flaxft import encoder
from flaxft.config import Config, Eval
from flaxft.data.pipeline import Data
from flaxft.models.hf import Pretrained
from flaxft.tasks.relation_classification import RelationClassification


def get_config():
    return Config(
        task=RelationClassification(),
        model=Pretrained(path=str(encoder.DIRECTORY)),
        data=Data(batch_size=64, max_length=128),
        evals={"validation": Eval()},
    )
