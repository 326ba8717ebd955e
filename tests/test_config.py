"""A config goes to JSON and back; a saved one imports nothing that is not flaxft's; what differs on resume is named."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flaxft import config as configs
from flaxft.config import Config, Eval, check_types, differences, from_json, to_json
from flaxft.data.pipeline import Data
from flaxft.errors import UserError
from flaxft.log import Log
from flaxft.models.hf import Pretrained
from flaxft.optim import SCHEDULES, Optim
from flaxft.sharding import Mesh
from flaxft.tasks.token_classification import TokenClassification

FACTS = {"data": {"train": "1"}, "model": "2", "tokenizer": "3", "vocab_size": 128, "max_length": 64}
NAMES = st.text(max_size=8)
RATES = st.floats(0, 1e3, allow_nan=False)


@dataclasses.dataclass
class Mine(TokenClassification):
    """A user's own task."""

    size: int = 1


def small(**changes: object) -> Config:
    return dataclasses.replace(Config(task=TokenClassification(train="a.conll"), model=Pretrained(path="encoder")), **changes)  # type: ignore[arg-type]


# ---- JSON -----------------------------------------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    task=st.builds(TokenClassification, train=NAMES, text_columns=st.lists(NAMES, max_size=3).map(tuple), labels=st.lists(NAMES, max_size=3).map(tuple),
                   scheme=st.none() | st.sampled_from(["IOB1", "IOB2"]), label_all_tokens=st.booleans()),
    optim=st.builds(Optim, learning_rate=RATES, schedule=st.sampled_from(SCHEDULES), warmup=RATES),
    data=st.builds(Data, batch_size=st.integers(1, 10**9), max_examples=st.none() | st.integers(1, 10**9), cache=st.booleans()),
    evals=st.dictionaries(NAMES.filter(lambda name: name != "type"), st.builds(Eval, every=st.integers(0, 99), patience=st.integers(0, 9)), max_size=3),
    num_epochs=RATES, num_steps=st.none() | st.integers(0, 10**12), seed=st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_round_trip(**fields):
    cfg = small(**fields)
    text = json.dumps(to_json(cfg), ensure_ascii=False)
    again = from_json(json.loads(text), "config.json")
    assert again == cfg
    assert differences(cfg, again) == []
    check_types(again, "")


def test_save_and_read(tmp_path):
    cfg = small(evals={"validation": Eval(every=3), "test": Eval()})
    configs.save(tmp_path / "config.json", cfg, FACTS)
    assert configs.read(tmp_path / "config.json") == (cfg, FACTS)
    assert [entry.name for entry in tmp_path.iterdir()] == ["config.json"]


@pytest.mark.parametrize(
    "name",
    [
        "os.system", "subprocess.Popen", "flaxft.config.json", "flaxft.config.Path", "flaxft.errors.UserError", "flaxft.main.main", "flaxft.tasks",
        "builtins.eval", "eval", "", ".", "flaxft.tasks..base",
        "flaxft.tasks.token_classification.dataclasses.dataclass", "tests.test_config.Mine", "antigravity.Mine",
    ],
)  # fmt: skip
def test_types_outside_flaxft_are_refused_and_not_imported(name):
    with pytest.raises(UserError, match=r"config.json: type .* is no part of flaxft; pass your own class with load\(..., types=\[...\]\)"):
        from_json({"type": name, "cmd": "true"}, "config.json")
    assert "antigravity" not in sys.modules


@pytest.mark.parametrize("name", ["flaxft.tasks.token_classification.UserError", "flaxft.tasks.token_classification.np", "flaxft.models.hf.nothing"])
def test_only_dataclasses_of_plug_ins(name):
    with pytest.raises(UserError, match="has no class"):
        from_json({"type": name}, "config.json")


@pytest.mark.parametrize("name", [["os.system"], {"type": "os.system"}, None, 3, True])
def test_a_type_that_is_no_name(tmp_path, name):
    saved = {"config": {"type": "flaxft.config.Config", "task": {"type": name}, "model": {"type": name}}, "facts": FACTS}
    (tmp_path / "config.json").write_text(json.dumps(saved))
    with pytest.raises(UserError, match=r"config\.json"):
        configs.read(tmp_path / "config.json")


def test_an_own_class_works_only_when_passed(tmp_path):
    cfg = small(task=Mine(train="a", size=7))
    configs.save(tmp_path / "config.json", cfg, FACTS)
    with pytest.raises(UserError, match=r"Mine' is no part of flaxft"):
        configs.read(tmp_path / "config.json")
    again, _ = configs.read(tmp_path / "config.json", own=[Mine])
    assert again == cfg and type(again.task) is Mine


def test_fields_of_another_version():
    content = to_json(small())
    content["optim"]["learning_rat"] = 1.0
    with pytest.raises(UserError, match=r"config.json: Optim has no field 'learning_rat'; did you mean 'learning_rate'\?; was it written by another flaxft\?"):
        from_json(content, "config.json")
    with pytest.raises(UserError, match=r"Config cannot be built .*task"):
        from_json({"type": "flaxft.config.Config"}, "config.json")


def change(path: str, value: object) -> str:
    content = {"config": to_json(small()), "facts": FACTS}
    *parents, last = path.split(".")
    owner: dict = content
    for name in parents:
        owner = owner[name]
    owner[last] = value
    return json.dumps(content)


@pytest.mark.parametrize(
    "content",
    [
        "", "{", "[]", "null", "3", '{"config": {}}', '{"config": 3, "facts": {}}', '{"config": {}, "facts": 3}', '{"config": {}, "facts": {},}',
        "\0", b"\xff\xfe{\0", "[" * 100_000, '{"config":' + "[" * 100_000,
        change("config", None), change("config", "x"), change("config.task", None), change("config.task", {"type": "flaxft.optim.Optim"}),
        change("config.evals", {"validation": 3}), change("config.evals", []), change("config.seed", "0"), change("config.optim", 3),
        change("config.optim.end_factor", None), change("config.task.labels", {"a": 1}), change("config.task.labels", "O"), change("facts", {}),
    ],
    ids=range(25),
)  # fmt: skip
def test_damaged(tmp_path, content):
    file = tmp_path / "config.json"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=r"config\.json: (damaged .*|holds no Config); restore it, or start a new workdir") as caught:
        configs.read(file)
    assert "\n" not in str(caught.value)


def test_missing_or_a_directory(tmp_path):
    with pytest.raises(UserError, match="holds no run"):
        configs.read(tmp_path / "config.json")
    with pytest.raises(UserError, match="damaged"):
        configs.read(tmp_path)


# ---- differences ----------------------------------------------------------------------------------------------------------------------------------


def test_differences_name_the_fields():
    old = small(optim=Optim(learning_rate=5e-5), evals={"validation": Eval()})
    new = small(optim=Optim(learning_rate=0.1), seed=3, evals={"validation": Eval(patience=2), "test": Eval()}, task=Mine(train="a.conll", labels=("O",)))
    assert differences(old, new) == [
        "evals.test.every: None -> 0",
        "evals.test.patience: None -> 0",
        "evals.test.type: None -> 'flaxft.config.Eval'",
        "evals.validation.patience: 0 -> 2",
        "optim.learning_rate: 5e-05 -> 0.1",
        "seed: 0 -> 3",
        "task.labels: [] -> ['O']",
        "task.size: None -> 1",
        f"task.type: 'flaxft.tasks.token_classification.TokenClassification' -> '{Mine.__module__}.Mine'",
    ]
    assert differences(new, new) == []


def test_operational_fields_and_paths_are_ignored():
    old = small(task=TokenClassification(train="a", validation="b"))
    new = small(
        task=TokenClassification(train="c", validation="d", test="e"),
        model=Pretrained(path="elsewhere", revision="main"),
        mesh=Mesh(data=8),
        log=Log(every=1),
        checkpoint=dataclasses.replace(old.checkpoint, every=1, keep=9),
        data=Data(threads=9, cache=False, eval_tokens=1),
    )
    assert differences(old, new) == []
    assert differences(old, small(data=Data(batch_size=1), task=old.task)) == ["data.batch_size: 32 -> 1"]
    # a name that only begins like an operational one is no operational one
    assert differences(old, small(model=Pretrained(path="encoder", dtype="bfloat16"), task=old.task)) == ["model.dtype: 'float32' -> 'bfloat16'"]


def test_a_config_stays_small():
    """Knobs live on the things that they set."""
    assert len(dataclasses.fields(Config)) <= 20


# ---- types ----------------------------------------------------------------------------------------------------------------------------------------


def test_check_types_lists_all_at_once():
    wrong = {"seed": "1", "num_steps": 1.5, "optim": Optim(learning_rate="fast", b1=True), "data": Data(cache=1, batch_size=None)}  # type: ignore[arg-type]
    cfg = small(**wrong, evals={"validation": Eval(every="x"), "test": 3})  # type: ignore[arg-type]
    cfg.task = dataclasses.replace(cfg.task, labels=["O"], train=Path("a"))  # type: ignore[type-var]
    with pytest.raises(UserError) as caught:
        check_types(cfg, "")
    assert sorted(str(caught.value).split("; ")) == sorted([
        "task.train is PosixPath('a'), expected str | tuple[str, ...]",
        "task.labels is ['O'], expected tuple[str, ...]",
        "optim.learning_rate is 'fast', expected float | None",
        "optim.b1 is True, expected float",
        "data.batch_size is None, expected int",
        "data.cache is 1, expected bool",
        "evals.validation.every is 'x', expected int",
        "evals.test is 3, expected Eval",
        "num_steps is 1.5, expected int | None",
        "seed is '1', expected int",
    ])  # fmt: skip


def test_check_types_takes_what_is_right():
    check_types(small(num_epochs=3, num_steps=4, optim=Optim(learning_rate=1, warmup=0), task=Mine()), "")
    small().check()


def test_check_types_of_an_own_class():
    """Annotations that no section of flaxft has."""

    @dataclasses.dataclass
    class Odd(TokenClassification):
        weights: dict[str, float] = dataclasses.field(default_factory=dict)
        options: dict = dataclasses.field(default_factory=dict)
        anything: Any = None
        side: Literal["left", "right"] = "left"
        names: list[str] | None = None

    check_types(small(task=Odd(weights={"a": 1.0}, options={1: "x"}, anything=object(), side="right", names=["a"])), "")
    with pytest.raises(UserError, match=r"task.weights.a is 'x', expected float; task.side is 'up', expected .*left.*; task.names is 3, expected list"):
        check_types(small(task=Odd(weights={"a": "x"}, side="up", names=3)), "")  # type: ignore[arg-type, dict-item]
