"""What SECURITY.md promises: a model, a checkpoint and a data set are data, keys stay in the environment, and what is logged is text."""

from __future__ import annotations

import ast
import importlib.metadata
import io
import json
import logging
import os
import pickle
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import flaxft
from flaxft import convert_bin, errors
from flaxft.data.source import open_source
from flaxft.errors import UserError, printable, printable_lines
from flaxft.log import Writer
from flaxft.main import main
from flaxft.models.hf import Pretrained
from flaxft.models.weights import read_array, stored_tensors
from tests import tiny
from tests.hub import HubServer

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "flaxft"

# ---- the code: no way to run what was loaded ------------------------------------------------------------------------------------------------------

LOADERS = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "yaml", "torch"}
TORCH_ALLOWED = ("convert_bin.py", "export/*")  # behind a command of its own; for the targets that need it
RUNS_CODE = {"eval", "exec", "compile", "__import__"}
EXEC_MODULE = ("config_file.py",)  # --config, a file that the user names
IMPORT_MODULE = ("config.py", "plugins.py", "models/hf.py", "export/*", "models/transformers_flax.py")  # by a name of the package's own files, or a constant


def faults(tree: ast.AST, path: str) -> Iterator[str]:
    """What a file may not do, `line: what`."""

    def allowed(patterns: tuple[str, ...]) -> bool:
        return any(Path(path).match(pattern) for pattern in patterns)

    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        for name in {name.partition(".")[0] for name in names} & LOADERS:
            if name != "torch" or not allowed(TORCH_ALLOWED):
                yield f"{path}:{node.lineno}: imports {name}"
        if not isinstance(node, ast.Call):
            continue
        called = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id if isinstance(node.func, ast.Name) else ""
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords if keyword.arg}
        if isinstance(node.func, ast.Name) and called in RUNS_CODE:
            yield f"{path}:{node.lineno}: {called}()"
        if called in ("exec_module", "spec_from_file_location") and not allowed(EXEC_MODULE):
            yield f"{path}:{node.lineno}: {called}() of a file"
        if called == "import_module" and not allowed(IMPORT_MODULE):
            yield f"{path}:{node.lineno}: import_module()"
        if given.get("allow_pickle", "False") != "False" or given.get("shell", "False") != "False":
            yield f"{path}:{node.lineno}: {given}"
        if given.get("trust_remote_code", "False") != "False":
            yield f"{path}:{node.lineno}: trust_remote_code={given['trust_remote_code']}"
        if called == "load" and ast.unparse(node.func) == "torch.load" and given.get("weights_only") != "True":
            yield f"{path}:{node.lineno}: torch.load without weights_only=True"


@pytest.mark.parametrize("file", sorted(PACKAGE.rglob("*.py")), ids=lambda file: file.relative_to(PACKAGE).as_posix())
def test_no_file_can_run_what_it_loads(file):
    assert list(faults(ast.parse(file.read_text(encoding="utf-8")), file.relative_to(PACKAGE).as_posix())) == []


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("data/x.py", "import pickle"), ("data/x.py", "from joblib import load"), ("data/x.py", "def f():\n    import torch.nn"), ("x.py", "import yaml"),
        ("x.py", "np.load(file, allow_pickle=True)"), ("x.py", "np.load(file, allow_pickle=flag)"), ("x.py", "eval(text)"), ("x.py", "exec(text)"),
        ("x.py", "importlib.import_module(name)"), ("x.py", "spec.loader.exec_module(module)"), ("x.py", "f(trust_remote_code=True)"),
        ("x.py", "f(trust_remote_code=self.trust)"), ("x.py", "subprocess.run(text, shell=True)"), ("convert_bin.py", "torch.load(file)"),
        ("convert_bin.py", "torch.load(file, weights_only=False)"),
    ],
)  # fmt: skip
def test_a_fault_is_found(path, text):
    assert len(list(faults(ast.parse(text), path))) == 1


def test_trust_remote_code_is_no_setting():
    """No flag, no field: the word stands where it is refused and where it is passed on as False."""
    places = {
        f"{file.relative_to(ROOT)}: {line.strip()}"
        for folder in ("flaxft", "configs", "launch")
        for file in (ROOT / folder).rglob("*")
        if file.suffix in (".py", ".sh", ".yaml", ".yml", ".ipynb")
        for line in file.read_text(encoding="utf-8").splitlines()
        if re.search(r"trust_?remote_?code", line, re.IGNORECASE) and not re.search(r'trust_remote_code=False|^\s*#|REFUSED = |"none: no code', line)
    }
    assert places == set()
    assert not any("trust" in field for field in vars(Pretrained()))


WATCH = """
import sys
events = []
def hook(event, args):
    if event == "pickle.find_class":
        events.append(f"{event} {args[0]}.{args[1]}")
sys.addaudithook(hook)

import pickle, _pickle
def watched(name, function):
    def call(*args, **kwargs):
        events.append(f"pickle.{name}")
        return function(*args, **kwargs)
    return call
def watched_class(cls):
    def init(self, *args, **kwargs):
        events.append("pickle.Unpickler")
        cls.__init__(self, *args, **kwargs)
    return type("Unpickler", (cls,), {"__init__": init})
pickle.load, pickle.loads = watched("load", pickle.load), watched("loads", pickle.loads)
pickle.Unpickler, pickle._Unpickler = watched_class(_pickle.Unpickler), watched_class(pickle._Unpickler)
"""
LOAD = """
import json
from pathlib import Path
from flaxft.data.source import open_source
from flaxft.errors import UserError
from flaxft.main import main
folder = Path(sys.argv[1])
for name in ("a.csv", "a.jsonl", "a.parquet", "train.conll"):
    assert len(open_source(str(folder / name), split="train")), name
assert len(open_source("hub:org/plain", split="train")) == 3
try:
    open_source("hub:org/script", split="train")
except UserError as error:
    assert "scripts are no longer supported" in str(error), error
train = [f"--config={folder / 'config.py'}", f"--workdir={folder / 'run'}", f"--config.task.train={folder / 'a.jsonl'}", "--config.task.test="]
assert main(train) == 0
assert main([*train, "--config.seed=9"]) == 1  # a line on stderr
assert main(["--mode=predict", f"--workdir={folder / 'run'}", f"--input={folder / 'in.txt'}"]) == 0  # restores
assert "torch" not in sys.modules
print("EVENTS", json.dumps(events))
"""
KEYS = {"WANDB_API_KEY": "0123456789abcdef0123456789abcdefcanary01", "HF_TOKEN": "hf_canaryCANARYcanaryCANARYcanary01", "AWS_SECRET_ACCESS_KEY": "aws-canary",
        "MLFLOW_TRACKING_TOKEN": "mlflow-canary-token", "MLFLOW_TRACKING_PASSWORD": "mlflow-canary-password"}  # fmt: skip


def config_file(folder: Path) -> Path:
    tiny.config(folder)
    text = f"from pathlib import Path\n\nfrom tests import tiny\n\n\ndef get_config():\n    return tiny.config(Path({str(folder)!r}), num_steps=2)\n"
    (folder / "config.py").write_text(text)
    return folder / "config.py"


@pytest.fixture(scope="module")
def watched(tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """Files of every format read, a run, the same with a mistake, a prediction: in a process that notes every use of pickle and has keys in its environment."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = tmp_path_factory.mktemp("watched")
    config_file(folder)
    rows = [{"tokens": ["anna", "in", "paris"], "tags": ["B-PER", "O", "B-LOC"]}, {"tokens": ["acme", "corp"], "tags": ["B-ORG", "I-ORG"]}] * 16
    (folder / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "a.csv").write_text("text,label\nanna,1\n")
    (folder / "in.txt").write_text("anna in paris\n")
    pq.write_table(pa.Table.from_pylist(rows), folder / "a.parquet")
    for name in ("plain", "script"):
        (folder / "datasets" / "org" / name).mkdir(parents=True)
        (folder / "datasets" / "org" / name / "train.jsonl").write_text('{"text": "anna", "label": "x"}\n' * 3)
    # older versions of `datasets` ran a data set's script
    (folder / "datasets" / "org" / "script" / "script.py").write_text(f"open({str(folder / 'canary')!r}, 'w')\n")
    with HubServer(folder) as hub:
        # the tests' compile cache stays: its place has a variable of its own
        environment = hub.environment(folder / "hub") | KEYS | {"FLAXFT_CACHE": str(folder / "cache")}
        return folder, subprocess.run([sys.executable, "-c", WATCH + LOAD, str(folder)], cwd=ROOT, env=environment, capture_output=True, text=True)


def test_nothing_is_unpickled_on_any_load_path(watched):
    """Model, column file, JSONL, CSV, Parquet, a data set of the hub, a run and its checkpoint, a prediction. torch is not imported either."""
    folder, done = watched
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines()[-1] == "EVENTS []"
    assert not (folder / "canary").exists(), "a data set's script ran"


def test_keys_stay_in_the_environment(watched):
    """No key in any file that was written, nor in what was printed."""
    folder, done = watched
    assert "error: " in done.stderr
    written = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    assert len([file for file in written if folder / "run" in file.parents]) > 10 and any(folder / "cache" in file.parents for file in written)
    for name, key in KEYS.items():
        assert key not in done.stdout + done.stderr, name
        assert [str(file) for file, content in written.items() if key.encode() in content] == [], name


def test_the_watch_sees_a_pickle():
    text = "import collections; pickle.loads(pickle.dumps(collections.Counter())); pickle.Unpickler; print(len(events), events)"
    done = subprocess.run([sys.executable, "-c", WATCH + text], capture_output=True, text=True, check=True)
    assert "pickle.loads" in done.stdout and "pickle.find_class collections.Counter" in done.stdout


# ---- canaries: each would touch a file if it ran ----------------------------------------------------------------------------------------------------


class Payload:
    """Touches a file when it is unpickled."""

    def __init__(self, canary: Path):
        self.canary = canary

    def __reduce__(self):
        return os.system, (f"touch {self.canary}",)


@pytest.fixture
def canary(tmp_path) -> Iterator[Path]:
    """Fails the test where the file is there at its end."""
    file = tmp_path / "canary"
    yield file
    assert not file.exists(), "code of an attacker ran"


def test_the_canary_works(tmp_path):
    pickle.loads(pickle.dumps(Payload(tmp_path / "canary")))  # noqa: S301
    assert (tmp_path / "canary").exists()


def refusal(capsys, *arguments: str) -> str:
    """The one line with which a command ends."""
    capsys.readouterr()
    code = main(arguments)
    stderr = capsys.readouterr().err
    assert code == errors.USER_ERROR, stderr
    assert stderr.startswith("error: ") and stderr.count("\n") == 1, stderr
    return stderr


@pytest.fixture
def files(tmp_path) -> Path:
    """Encoder, corpora and a config file."""
    return config_file(tmp_path).parent


def zipped(payload: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("archive/data.pkl", payload)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("name", "wrap", "words"),
    [
        ("pytorch_model.bin", bytes, ["pytorch_model.bin", "pickle can run code", "python -m flaxft.convert_bin"]),
        ("pytorch_model.bin", zipped, ["pytorch_model.bin", "python -m flaxft.convert_bin"]),
        ("model.safetensors", bytes, ["model.safetensors", "a pickle", "put a real safetensors file there"]),
        ("model.safetensors", zipped, ["a zip or PyTorch archive"]),
        ("flax_model.msgpack", bytes, ["flax_model.msgpack", "no Flax weights"]),
        ("model.pkl", bytes, ["model.pkl", "pickle can run code"]),
    ],
    ids=["bin", "zipped bin", "safetensors", "zipped safetensors", "msgpack", "pkl"],
)
def test_a_pickle_among_the_weights(files, canary, capsys, name: str, wrap: Callable[[bytes], bytes], words):
    (files / "encoder" / "model.safetensors").unlink()
    (files / "encoder" / name).write_bytes(wrap(pickle.dumps(Payload(canary))))
    line = refusal(capsys, f"--config={files / 'config.py'}", f"--workdir={files / 'run'}")
    assert all(word in line for word in words), line
    assert not (files / "run").exists()


def test_a_msgpack_of_objects(files, canary, capsys):
    """The array type that NumPy would unpickle."""
    import msgpack

    body = msgpack.packb(((1,), "|O", pickle.dumps(Payload(canary))), use_bin_type=True)
    (files / "encoder" / "model.safetensors").unlink()
    (files / "encoder" / "flax_model.msgpack").write_bytes(msgpack.packb({"embeddings": msgpack.ExtType(1, body)}))
    assert "no Flax weights" in refusal(capsys, f"--config={files / 'config.py'}", f"--workdir={files / 'run'}")


def test_a_parquet_file_with_a_pickled_type(files, canary):
    """CVE-2023-47248: pyarrow before 14 unpickled the extension type that a file's schema carries."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    meta = {b"ARROW:extension:name": b"arrow.py_extension_type", b"ARROW:extension:metadata": pickle.dumps(Payload(canary))}
    schema = pa.schema([pa.field("tokens", pa.list_(pa.string()), metadata=meta), pa.field("tags", pa.list_(pa.string()))])
    pq.write_table(pa.Table.from_pylist([{"tokens": ["anna"], "tags": ["O"]}], schema=schema), files / "a.parquet")
    assert open_source(str(files / "a.parquet"), split="train")[0] == {"tokens": ["anna"], "tags": ["O"]}


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    flaxft.run(tiny.config(folder, num_steps=2), str(folder / "run"))
    return folder / "run"


def test_a_pickle_in_the_checkpoint_folder(finished, canary, tmp_path):
    """In the place of Orbax's files it is damage; beside them nobody looks at it."""
    run = shutil.copytree(finished, tmp_path / "run")
    (step,) = (folder for folder in (run / "checkpoints").iterdir() if folder.name == "2")
    payload = pickle.dumps(Payload(canary))
    for name in ("state.pkl", "params/array.pkl", "checkpoint"):
        (step / name).write_bytes(payload)
    (run / "checkpoints" / "best.pkl").write_bytes(payload)
    assert flaxft.load(str(run)).predict(["anna in paris"])
    for name in json.loads((step / "manifest.json").read_text())["files"]:
        (step / name).write_bytes(payload)
    with pytest.raises(errors.DamagedError):
        flaxft.load(str(run)).predict(["anna"])


@pytest.mark.parametrize(
    "name",
    ["os.system", "builtins.eval", "subprocess.Popen", "flaxft.main.main", "flaxft.models.hf.os", "flaxft.tasks.base.Any", "flaxft.models.hf.importlib",
     "flaxft.config.from_file", "canary.Canary", ".canary", "flaxft.tasks..canary.Canary", "flaxft.tasks.canary.Canary", "flaxft.data.hub._load_hub"],
)  # fmt: skip
@pytest.mark.parametrize("place", ["config", "task", "optim"])
def test_a_type_in_a_workdir_imports_nothing_else(finished, files, canary, monkeypatch, capsys, name, place):
    (files / "canary.py").write_text(f"import dataclasses\nopen({str(canary)!r}, 'w')\n@dataclasses.dataclass\nclass Canary: pass\n")
    monkeypatch.syspath_prepend(files)
    run = shutil.copytree(finished, files / "run")
    content = json.loads((run / "config.json").read_text())
    evil = {"type": name, "args": [f"touch {canary}"], "command": f"touch {canary}"}
    content["config"] = evil if place == "config" else content["config"] | {place: evil}
    (run / "config.json").write_text(json.dumps(content))
    line = refusal(capsys, "--mode=eval", f"--workdir={run}")
    assert "config.json" in line and ("no part of flaxft" in line or "has no class" in line), line


@pytest.mark.parametrize("depth", [100, 600, 900, 100_000])
def test_a_config_as_deep_as_a_well(finished, files, capsys, depth):
    run = shutil.copytree(finished, files / "run")
    (run / "config.json").write_text('{"facts": {}, "config": ' + "[" * depth + "]" * depth + "}")
    assert "config.json" in refusal(capsys, "--mode=eval", f"--workdir={run}")


REMOTE = {"auto_map": {"AutoModel": "evil--model.Canary", "AutoTokenizer": ["evil.Canary", None]}, "custom_pipelines": {"x": {"impl": "evil.Canary"}},
          "trust_remote_code": True, "_attn_implementation_internal": "evil/kernel", "_experts_implementation_internal": "evil/kernel",
          "custom_pipeline": "evil", "custom_generate": "evil/generate"}  # fmt: skip


@pytest.mark.parametrize("key", REMOTE)
@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json", "special_tokens_map.json"])
def test_fields_that_ask_for_code(files, canary, capsys, file, key):
    """Whichever of the model's files they stand in; the code lies beside it."""
    for name in ("evil.py", "model.py", "modeling_evil.py", "tokenization_evil.py"):
        (files / "encoder" / name).write_text(f"open({str(canary)!r}, 'w')\nclass Canary: pass\n")
    path = files / "encoder" / file
    path.write_text(json.dumps((json.loads(path.read_text()) if path.exists() else {}) | {key: REMOTE[key]}))
    for more in ([], ["--config.model.ignore=" + key]):
        line = refusal(capsys, f"--config={files / 'config.py'}", f"--workdir={files / 'run'}", *more)
        assert file in line and key in line and "code or layouts that flaxft does not run" in line, line


def test_fields_that_ask_for_code_in_a_run(finished, canary, tmp_path):
    run = shutil.copytree(finished, tmp_path / "run")
    for file in ("config.json", "tokenizer_config.json"):
        path = run / "model" / file
        before = path.read_bytes() if path.exists() else b"{}"
        path.write_text(json.dumps(json.loads(before) | {"auto_map": {"AutoConfig": "evil.Canary"}}))
        with pytest.raises(UserError, match=rf"{file}: \['auto_map'\] ask for code"):
            flaxft.load(str(run))
        path.write_bytes(before)


def test_a_tokenizer_config_that_names_files_elsewhere(tmp_path, canary):
    """transformers reads a tokenizer without tokenizer.json; it takes no path from tokenizer_config.json."""
    encoder = tiny.encoder(tmp_path / "encoder")
    (encoder / "tokenizer.json").rename(tmp_path / "elsewhere.json")
    config = {"tokenizer_class": "BertTokenizer", "tokenizer_file": str(tmp_path / "elsewhere.json"), "vocab_file": "/etc/hostname"}
    (encoder / "tokenizer_config.json").write_text(json.dumps(config))
    (encoder / "vocab.txt").write_text("\n".join(tiny.PIECES[:20]))
    from flaxft.data.tokenize import load_tokenizer

    assert len(load_tokenizer(encoder, vocab_size=128, max_length=64).pieces) == 20


# ---- paths that lead out ----------------------------------------------------------------------------------------------------------------------------


def sharded(directory: Path, name: str) -> Path:
    (directory / "model.safetensors").rename(directory / "part.safetensors")
    tensors = stored_tensors_names(directory / "part.safetensors")
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": dict.fromkeys(tensors, name)}))
    return directory


def stored_tensors_names(file: Path) -> list[str]:
    from safetensors import safe_open

    with safe_open(file, framework="numpy") as handle:
        return list(handle.keys())


@pytest.mark.parametrize("name", ["../secret.safetensors", "/etc/passwd", "sub/../../secret.safetensors", "..", ".", "link.safetensors", "a\0b", "folder/link"])
def test_shards_stay_in_the_directory(tmp_path, name):
    encoder = sharded(tiny.encoder(tmp_path / "encoder"), name)
    shutil.copy(encoder / "part.safetensors", tmp_path / "secret.safetensors")
    (encoder / "link.safetensors").symlink_to(tmp_path / "secret.safetensors")
    with pytest.raises(UserError, match="leave the directory"):
        Pretrained(path=str(encoder)).open()


def test_links_inside_the_directory_and_in_the_hubs_cache_are_followed(tmp_path):
    encoder = sharded(tiny.encoder(tmp_path / "encoder"), "link.safetensors")
    (encoder / "link.safetensors").symlink_to("part.safetensors")
    assert Pretrained(path=str(encoder)).open()
    snapshot = tmp_path / "models--org--name" / "snapshots" / "abc"
    blobs = tmp_path / "models--org--name" / "blobs"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for file in encoder.iterdir():
        shutil.copy(file, blobs / f"blob-{file.name}")
        (snapshot / file.name).symlink_to(f"../../blobs/blob-{file.name}")
    assert Pretrained(path=str(snapshot)).open()
    (snapshot / "link.safetensors").unlink()
    (snapshot / "link.safetensors").symlink_to(encoder / "part.safetensors")
    with pytest.raises(UserError, match="leave the directory"):
        Pretrained(path=str(snapshot)).open()


@pytest.mark.parametrize("name", ["../org/name", "org/..", "org/name/../../x", "/org/name", "org\\name", "https://host/org/name", "org/name@x", "-x/../y", "file:///etc"])
def test_model_names_do_not_lead_out_of_the_cache(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"no such directory|neither a directory"):
        Pretrained(path=name).open()


@pytest.mark.parametrize("revision", ["../../../etc", "a/../b", "", "/etc", "-x", "a b", "a\nb"])
def test_revisions_do_not_lead_out_of_the_cache(tmp_path, monkeypatch, revision):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="is no branch, tag or commit"):
        Pretrained(path="org/name", revision=revision).open()


@pytest.mark.parametrize("name", ["hub:../x", "hub:..", "hub:org/..", "hub:org/name/..", "hub:/etc/x", "hub:org/name@../../x", "hub:..\\x", "hub:./x"])
def test_data_set_names_do_not_lead_out_of_the_cache(tmp_path, monkeypatch, name):
    (tmp_path / "here").mkdir()
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "train.csv").write_text("text,label\na,1\n")
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(UserError, match=r"leads out of the hub's cache|expected hub:NAME"):
        open_source(name, split="train")


# ---- .bin files -------------------------------------------------------------------------------------------------------------------------------------


def test_a_real_bin_becomes_safetensors(tmp_path, monkeypatch, capsys):
    """A BERT with the masked language model's head, whose decoder is the embedding table, as PyTorch saves it: in one file, and in shards."""
    torch = pytest.importorskip("torch")
    from transformers import BertConfig, BertForMaskedLM

    sizes = {key: value for key, value in tiny.ENCODER.items() if key not in ("model_type", "architectures", "initializer_range")}
    model = BertForMaskedLM(BertConfig(**sizes))
    model.config.save_pretrained(tmp_path / "bin")
    shutil.copy(tiny.encoder(tmp_path / "encoder") / "tokenizer.json", tmp_path / "bin")
    state = model.state_dict()
    assert state["cls.predictions.decoder.weight"].data_ptr() == state["bert.embeddings.word_embeddings.weight"].data_ptr(), "tied"
    torch.save(state, tmp_path / "bin" / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"python -m flaxft.convert_bin .*bin NEW_DIRECTORY"):
        Pretrained(path=str(tmp_path / "bin")).open()
    assert convert_bin.main([str(tmp_path / "bin"), str(tmp_path / "new")]) == errors.OK
    assert f"{len(state)} tensors of pytorch_model.bin" in capsys.readouterr().out
    assert sorted(file.name for file in (tmp_path / "new").iterdir()) == ["config.json", "model.safetensors", "tokenizer.json"]
    found = stored_tensors(tmp_path / "new")
    assert set(found) == set(state)
    for name, tensor in state.items():
        np.testing.assert_array_equal(read_array(found[name], where=tmp_path), tensor.numpy())
    Pretrained(path=str(tmp_path / "new")).open()
    again = BertForMaskedLM.from_pretrained(tmp_path / "new").state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in state.items())

    monkeypatch.setattr(convert_bin, "_in_a_process_of_its_own", convert_bin._read_and_write)  # one process was shown
    (tmp_path / "shards").mkdir()
    names = sorted(state)
    halves = {"a.bin": names[::2], "b.bin": names[1::2]}
    for file, half in halves.items():
        torch.save({name: state[name].half() for name in half}, tmp_path / "shards" / file)
    index = tmp_path / "shards" / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"weight_map": {name: file for file, half in halves.items() for name in half}}))
    assert "tensors of a.bin, b.bin; put the model's config.json" in convert_bin.convert(tmp_path / "shards", tmp_path / "new2")
    assert set(stored_tensors(tmp_path / "new2")) == set(state)
    for name, word in (("../bin/pytorch_model.bin", "leave the directory"), ("c.bin", "not there")):
        index.write_text(json.dumps({"weight_map": {"x": name}}))
        with pytest.raises(UserError, match=word):
            convert_bin.convert(tmp_path / "shards", tmp_path / "new3")


def test_a_hostile_bin_runs_nothing(tmp_path, canary, monkeypatch, capsys):
    torch = pytest.importorskip("torch")
    (tmp_path / "raw.bin").write_bytes(pickle.dumps(Payload(canary)))
    torch.save({"x": Payload(canary)}, tmp_path / "torch.bin")
    for name in ("torch.bin", "raw.bin"):
        assert convert_bin.main([str(tmp_path / name), str(tmp_path / "new")]) == errors.USER_ERROR
        line = capsys.readouterr().err
        assert line.startswith(f"error: {tmp_path / name}: it ") and line.count("\n") == 1, line
        assert "nothing of it was run" in line
        assert ("posix.system" in line) == (name == "torch.bin")
        monkeypatch.setattr(convert_bin, "_in_a_process_of_its_own", convert_bin._read_and_write)  # one process was shown
    assert sorted(file.name for file in tmp_path.iterdir()) == ["raw.bin", "torch.bin"], "nothing half-written"


def test_bins_that_hold_something_else(tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(convert_bin, "_in_a_process_of_its_own", convert_bin._read_and_write)  # the two tests before have one
    cases = {"text": b"hello", "empty": b"", "list": [torch.zeros(2)], "numbers": {"a": 1}, "nested": {"model": {"w": torch.zeros(2)}}}
    for name, content in cases.items():
        if isinstance(content, bytes):
            (tmp_path / name).write_bytes(content)
        else:
            torch.save(content, tmp_path / name)
        with pytest.raises(UserError, match=r"no PyTorch file|expected tensors by name|no plain tensors"):
            convert_bin.convert(tmp_path / name, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_the_command_for_bins_refuses_in_one_line(tmp_path, monkeypatch, capsys):
    (tmp_path / "a.bin").write_bytes(b"x")
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "x").write_text("")
    cases = {"no such file": [tmp_path / "none", "x"], "holds neither": [tmp_path / "there", "x"], "there already": [tmp_path / "a.bin", tmp_path / "there"]}
    for words, arguments in cases.items():
        assert convert_bin.main([str(one) for one in arguments]) == errors.USER_ERROR
        assert words in capsys.readouterr().err
    for version, words in (("2.9.1", "torch is 2.9.1; converting .bin files needs torch 2.10"), (None, "torch is not installed")):

        def installed(name: str, version: str | None = version) -> str:
            if version is None:
                raise importlib.metadata.PackageNotFoundError(name)
            return version

        monkeypatch.setattr(importlib.metadata, "version", installed)
        assert convert_bin.main([str(tmp_path / "a.bin"), str(tmp_path / "new")]) == errors.USER_ERROR
        line = capsys.readouterr().err
        assert words in line and line.count("\n") == 1
    assert convert_bin.main(["x"]) == errors.USAGE
    for good in ("2.10.0", "2.13.0+cpu", "3.0"):
        monkeypatch.setattr(importlib.metadata, "version", lambda name, good=good: good)
        convert_bin.check_torch()


def test_the_process_that_reads_a_bin_has_no_keys(tmp_path, monkeypatch):
    given: list[dict[str, str]] = []

    def run(command, *, env, **_):
        given.append(env)
        return subprocess.CompletedProcess(command, -11, "", "")

    monkeypatch.setenv("HF_TOKEN", "hf_canary")
    monkeypatch.setattr(subprocess, "run", run)
    (tmp_path / "a.bin").write_bytes(b"x")
    pytest.importorskip("torch")
    with pytest.raises(UserError, match="SIGSEGV: damaged, hostile"):
        convert_bin.convert(tmp_path / "a.bin", tmp_path / "new")
    assert "hf_canary" not in str(given) and given[0]["PATH"]


# ---- keys -------------------------------------------------------------------------------------------------------------------------------------------

def test_a_password_in_a_path_is_not_printed(files, capsys):
    """Addresses are no paths that flaxft reads; the line that says so has no password."""
    for option in ("task.train", "task.validation", "model.path"):
        line = refusal(capsys, f"--config={files / 'config.py'}", f"--workdir={files / 'run'}", f"--config.{option}=https://anna:pa55word@host/x.jsonl")
        assert "pa55word" not in line and "anna" not in line and "https://***@host/x.jsonl" in line, line
    assert not (files / "run").exists()


# ---- what is printed --------------------------------------------------------------------------------------------------------------------------------

NASTY = "a\rb\nc\x1b[31md\u202ee\x9bf\x00g\u2028h"
ESCAPED = r"a\rb\nc\x1b[31md\u202ee\x9bf\x00g\u2028h"


def test_what_is_logged_is_one_line(capsys):
    assert printable(NASTY) == ESCAPED
    assert printable("Zürich 東京 naïve 😀") == "Zürich 東京 naïve 😀"
    assert printable_lines("a\nb\x1b") == "a\nb\\x1b"
    assert str(UserError(NASTY)) == ESCAPED
    handler = logging.StreamHandler(io.StringIO())
    logging.getLogger("flaxft").addHandler(handler)
    try:
        logging.getLogger("flaxft").warning("%s: 100 %% of %d", NASTY, 3)
    finally:
        logging.getLogger("flaxft").removeHandler(handler)
    assert handler.stream.getvalue() == f"{ESCAPED}: 100 % of 3\n"
    Writer(None).line(f"x\n{NASTY}")
    assert capsys.readouterr().out == "x\na\\rb\nc\\x1b[31md\\u202ee\\x9bf\\x00g\\u2028h\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://user:secret@host/x", "https://***@host/x"),
        ("s3://AKIA:key@bucket and mailto a@b.c", "s3://***@bucket and mailto a@b.c"),
        ("Authorization: Bearer abcdefgh12345678", "Authorization: Bearer ***"),
        (f"token hf_{'aB3' * 11} is wrong", "token *** is wrong"),
        ("runs/hf_bertbaseuncasedfinetuned/x", "runs/hf_bertbaseuncasedfinetuned/x"),
        ("runs/user@host/x, http://host/a@b", "runs/user@host/x, http://host/a@b"),
        ("bearer of news", "bearer of news"),
    ],
)
def test_secrets_are_not_printed(text, expected):
    assert printable(text) == expected


def test_labels_with_control_characters(files, capsys):
    """Through a whole run: what the terminal would act on is never printed raw."""
    rows = [{"tokens": ["anna", "in", "paris"], "tags": ["B-P\x1b[31mER", "O", "B-LO\nC"]}] * 16
    (files / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = [f"--config.task.{split}={files / 'a.jsonl'}" for split in ("train", "validation")]
    code = main([f"--config={files / 'config.py'}", f"--workdir={files / 'run'}", *data, "--config.task.test=", "--config.num_steps=0"])
    out, err = capsys.readouterr()
    assert code == errors.OK, err
    assert r"B-P\x1b[31mER" in out and r"LO\nC" in out
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]", out + err)
    assert not re.search(r"^C\b", out, re.MULTILINE), "no line begins with what stands behind a label's line break"


# ---- the audit of the lock --------------------------------------------------------------------------------------------------------------------------

SOUND, BAD, UNKNOWN = (
    {"name": "a", "version": "1", "vulns": []},
    {"name": "b", "version": "2", "vulns": [{"id": "PYSEC-1", "aliases": ["CVE-1"], "fix_versions": ["3"]}]},
    {"name": "c", "skip_reason": "not found on PyPI: c (4)"},
)


@pytest.mark.parametrize(
    ("found", "code", "words"),
    [
        ([SOUND], 0, ["1 pins, none with a known vulnerability"]),
        ([SOUND, BAD], 1, ["b 2: PYSEC-1 CVE-1, fixed in 3", "1 of 2 pins have known vulnerabilities"]),
        ([SOUND, UNKNOWN], 1, ["1 of 2 pins could not be audited", "not found on PyPI: c (4)"]),
        (None, 1, ["pip-audit ended with 1 and no result (no network)", "nothing was audited"]),
    ],
    ids=["clean", "vulnerable", "not found", "no answer"],
)
def test_what_the_audit_makes_of_pip_audits_answer(tmp_path, found, code, words):
    """The answers are made up; the script itself needs the network. A package that pip-audit passes over is no clean one."""
    script = re.search(r"<<'PY'\n(.*)\nPY\n", (ROOT / ".ci" / "audit").read_text(encoding="utf-8"), re.DOTALL)
    assert script
    (tmp_path / "sbom.json").write_text('{"components": [1, 2]}')
    (tmp_path / "stderr").write_text("Traceback\nno network\n")
    if found is not None:
        (tmp_path / "audit.json").write_text(json.dumps({"dependencies": found}))
    done = subprocess.run([sys.executable, "-", str(tmp_path), str(tmp_path / "sbom.json"), "1"], input=script[1], capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    assert all(word in done.stdout + done.stderr for word in ["2 components", *words]), done.stdout + done.stderr
