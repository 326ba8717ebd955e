"""docs/migrating.md: every flag of the old scripts has its row, what stands beside it exists, and so do the tests that it names."""

from __future__ import annotations

import ast
import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from flaxft import synonyms
from flaxft.checkpoint import Checkpointing
from flaxft.command import _find, from_file
from flaxft.config import Config, Eval
from flaxft.data.pipeline import Data
from flaxft.data.tokenize import load_tokenizer
from flaxft.errors import UserError
from flaxft.log import Log
from flaxft.main import MODES
from flaxft.models.hf import Pretrained, write
from flaxft.optim import Optim
from flaxft.sharding import Mesh
from flaxft.tasks.token_classification import TokenClassification
from tests import tiny

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "migrating.md").read_text(encoding="utf-8")
MODEL = "model_name_or_path config_name tokenizer_name cache_dir model_revision token use_auth_token trust_remote_code dtype".split()
TRAINING = (
    "output_dir overwrite_output_dir do_train do_eval per_device_train_batch_size per_device_eval_batch_size learning_rate weight_decay adam_beta1 adam_beta2"
    " adam_epsilon adafactor num_train_epochs warmup_steps logging_steps save_steps eval_steps seed push_to_hub hub_model_id hub_token"
).split()
DATA = "dataset_name dataset_config_name train_file validation_file overwrite_cache preprocessing_num_workers max_seq_length".split()
SAMPLES = "test_file max_train_samples max_eval_samples max_predict_samples".split()
OLD = {
    "run_flax_ner.py": [
        *MODEL, *TRAINING, *DATA, *SAMPLES,
        *"task_name text_column_name label_column_name label_all_tokens return_entity_level_metrics".split(),
    ],
    "run_flax_glue.py": [
        *MODEL, *TRAINING, *DATA, *SAMPLES,
        *"task_name use_slow_tokenizer text_column_name label_column_name max_length max_train_steps num_warmup_steps".split(),
    ],
    "run_qa.py": [
        *MODEL, *TRAINING, *DATA, *SAMPLES,
        *"do_predict pad_to_max_length version_2_with_negative null_score_diff_threshold doc_stride n_best_size max_answer_length".split(),
    ],
    "run_mlm_flax.py": [
        *MODEL, *TRAINING, *DATA,
        *"model_type use_fast_tokenizer train_ref_file validation_ref_file validation_split_percentage mlm_probability pad_to_max_length".split(),
        *"line_by_line gradient_checkpointing".split(),
    ],
    "transformers.Trainer": (
        "max_steps lr_scheduler_type warmup_ratio max_grad_norm gradient_accumulation_steps fp16 bf16 label_smoothing_factor eval_strategy"
        " evaluation_strategy save_strategy save_total_limit load_best_model_at_end metric_for_best_model greater_is_better early_stopping_patience"
        " resume_from_checkpoint report_to logging_dir dataloader_num_workers no_cuda use_cpu train_batch_size torch_compile"
    ).split(),
}  # fmt: skip


def rows() -> list[tuple[str, str]]:
    """(then, now) of the tables of flags."""
    flags = TEXT.partition("## What was wrong")[0]
    return [(cells[0], cells[1]) for line in flags.splitlines() if line.startswith("| ") and len(cells := line.strip("| ").split(" | ")) == 2]


def test_the_command_line_answers_with_what_this_page_says():
    """`flaxft/synonyms.py` has the rows of this page, in its order."""
    assert [(" ".join(re.findall(r"--(\w+)", then)), now.replace("`", "")) for then, now in rows() if "--" in then] == list(synonyms.TABLE)


@pytest.mark.parametrize("script", OLD)
def test_every_flag_of_the_old_script_has_its_row(script):
    known = {flag for then, _ in rows() for flag in re.findall(r"--(\w+)", then)}
    assert [flag for flag in OLD[script] if flag not in known] == []


def test_no_row_names_a_flag_that_was_none():
    known = {flag for flags in OLD.values() for flag in flags}
    assert [flag for then, _ in rows() for flag in re.findall(r"--(\w+)", then) if flag not in known] == []


def test_every_setting_of_ours_exists():
    """Each `--config.x.y` is a field of one of the configs that the page is about; each mode is one."""
    cfgs = [from_file(str(ROOT / "configs" / name)) for name in ("ner.py", "squad.py", "mlm.py", "glue.py:sst2")]
    names = re.findall(r"--config\.([a-z0-9_.]+[a-z0-9_])", TEXT)
    assert len(set(names)) > 25
    for name in names:
        assert any(_exists(cfg, name) for cfg in cfgs), name
    assert set(re.findall(r"--mode=(\w+)", TEXT)) <= set(MODES)
    for name in re.findall(r"configs/(\w+\.py)", TEXT):
        assert (ROOT / "configs" / name).is_file()


def _exists(cfg: Config, name: str) -> bool:
    try:
        _find(cfg, name)
    except UserError:
        return False
    return True


def test_every_test_that_the_page_names_is_there():
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", TEXT)
    assert len(named) >= 14
    for file, function in named:
        functions = {node.name for node in ast.walk(ast.parse((ROOT / file).read_text())) if isinstance(node, ast.FunctionDef)}
        assert function in functions, f"{file}::{function}"
    defects = TEXT.partition("## What was wrong")[2]
    assert len(re.findall(r"^\| (?!it did|---)", defects, re.MULTILINE)) == 10


# ---- defects that no other test shows -----------------------------------------------------------------------------------------------------------


def test_a_saved_model_has_the_names_of_its_labels(tmp_path):
    tiny.encoder(tmp_path / "encoder")
    tiny.corpus(tmp_path / "train.conll")
    source = Pretrained(path=str(tmp_path / "encoder"))
    checkpoint = source.open()
    tokenizer = load_tokenizer(checkpoint.directory, vocab_size=checkpoint.encoder.vocab_size, max_length=checkpoint.encoder.max_length)
    task = TokenClassification(train=str(tmp_path / "train.conll")).resolve(tokenizer, checkpoint)
    loaded = source.load(checkpoint, task.head, reuse_head=False, seed=0)
    write(tmp_path / "out", loaded.params, loaded.encoder, checkpoint.config, kind="token", labels=task.labels)
    saved = json.loads((tmp_path / "out" / "config.json").read_text())
    assert set(saved["id2label"].values()) == {"O", *(f"{letter}-{name}" for name in ("PER", "LOC", "ORG") for letter in "BI")}
    assert {str(i): name for name, i in saved["label2id"].items()} == saved["id2label"]


SECTIONS = (Config, Eval, Data, Optim, Mesh, Checkpointing, Log, Pretrained, TokenClassification)


@pytest.mark.parametrize("section", SECTIONS, ids=lambda one: one.__name__)
def test_every_setting_is_read(section):
    """Each field of a config is read somewhere in the package, beside its definition and its check: as `something.field`, or by name in its own module."""
    read: set[str] = set()
    for file in (ROOT / "flaxft").rglob("*.py"):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        checks = {id(node) for one in ast.walk(tree) if isinstance(one, ast.FunctionDef) and one.name == "check" for node in ast.walk(one)}
        nodes = [node for node in ast.walk(tree) if id(node) not in checks]
        read |= {node.attr for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)}
        if file == Path(sys.modules[section.__module__].__file__ or ""):
            read |= {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}  # for name in (...): getattr(...)
    if section is Mesh:
        read |= {"fsdp", "tensor"}  # make_mesh goes over the fields
    assert [field.name for field in dataclasses.fields(section) if field.name not in read] == []


BATCHES = """
import json, sys
import flaxft.data.items, flaxft.data.packing, flaxft.data.pipeline, flaxft.data.source, flaxft.data.tokenize
print(json.dumps(sorted({"jax", "jaxlib", "torch", "tensorflow"} & set(sys.modules))))
"""


def test_batches_are_made_without_jax(tmp_path):
    """The whole data path is imported without jax, and what it hands to the step are numpy arrays."""
    done = subprocess.run([sys.executable, "-c", BATCHES], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
    from flaxft.data.packing import Shape
    from flaxft.data.pipeline import Pipeline
    from tests.tasks.contract import prepare

    _, task, items, _ = prepare(tmp_path, "token_classification")
    batches = list(Pipeline(items, task.spec(), seed=0).once(Shape(row_length=32, num_slots=4, num_rows=2)))
    assert batches
    assert all(type(array) is np.ndarray for batch in batches for array in batch.values())
