"""Weights in and out: a Hugging Face model directory or hub id becomes encoder, head and parameters, and parameters become such a directory."""

from __future__ import annotations

import hashlib
import importlib
import json
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

from flaxft.errors import UserError, nearest, reason
from flaxft.models.base import Checkpoint, Encoder, Key, Loaded, Model, Modules, flatten, unflatten
from flaxft.models.modules import SETTINGS, read_classifier, read_modules
from flaxft.models.weights import MSGPACK, SINGLE, Stored, read_array, read_json, stored_tensors

CONFIG_CAP = 1 << 20  # bytes; the largest config.json on the hub is a few hundred kB of labels
# Keys of config.json and of the tokenizer's files that name code to run, or another layout. `_attn_implementation_internal` fetched and ran a kernel of the hub
# in transformers before 5.3 (CVE-2026-4372), whatever trust_remote_code said.
REFUSED = re.compile(r"auto_map|.*remote_code.*|custom_(\w*pipelines?|generate|objects?)|quantization_config|.*_internal|kernels?_config")
TOKENIZER_CONFIGS = ("tokenizer_config.json", "special_tokens_map.json")
TOKENIZER_CAP = 10 << 20  # bytes; they may list every added token
MERGE = "merge it into its model first (merge_and_unload of peft), and save that with save_pretrained"
PLACEHOLDER = re.compile(r"LABEL_[0-9]+")  # what transformers calls a label that nobody named
MEAN = "mean_sequence"  # the kind of a classifier that only sentence-transformers can hold
NAMED_HEADS = ("token", "sequence", MEAN)  # kinds whose outputs have names; elsewhere id2label means nothing
NO_FAMILIES = ("__init__", "base", "heads", "hf", "modules", "weights")  # files of this folder that are no families
HEADLESS = "embedding"  # the kind that is an encoder alone
HUB_FILES = ("config.json", "*.safetensors", "*.safetensors.index.json", "flax_model.msgpack", "tokenizer*", "vocab*", "merges.txt", "*.model",
             "special_tokens_map.json", "added_tokens.json", "modules.json", "*/config.json", *SETTINGS)  # fmt: skip


@dataclass
class Pretrained:
    """A pretrained encoder, or an already fine-tuned model, by directory or hub id."""

    path: str = ""
    """Where the encoder or the fine-tuned model is: a directory with config.json, weights and tokenizer, or a hub id such as google-bert/bert-base-
    cased."""
    revision: str | None = None
    """The branch, tag or commit of a hub id; none is its main branch."""
    dtype: str = "float32"
    """What activations are computed in: float32 or bfloat16. Parameters, norms, softmax and loss stay float32."""
    hidden_dropout: float | None = None
    """Dropout of embeddings and layers, from 0 to below 1; none takes what the checkpoint's config.json says."""
    attention_dropout: float | None = None
    """Dropout of attention weights, from 0 to below 1; none takes what the checkpoint's config.json says."""
    classifier_dropout: float | None = None
    """Dropout before the head's last layer, from 0 to below 1; none takes what the checkpoint's config.json says."""
    attention: str = "xla"
    """The attention kernel: xla, or splash, whose memory on TPU grows with T and not with its square, without dropout on its weights. Elsewhere splash
    is xla."""
    remat: bool = False
    """Whether the backward pass computes each layer again: a quarter more products for less memory, of which XLA:CPU makes little (6 %)."""
    ignore: tuple[str, ...] = ()
    """Keys of the checkpoint's config.json that are passed over, for settings that are not known here."""

    def open(self) -> Checkpoint:
        """Finds the model and reads its config and the headers of its weights; a run's workdir opens as its best weights. Raises UserError."""
        from flaxft import finished

        found = _find(self.path, self.revision)
        run = finished.open_run(found) if finished.is_run(found) else None
        modules = run.modules if run else read_modules(found)
        directory = run.model if run else found / modules.encoder if modules else found
        config = read_config(directory) | (run.changes if run else {})
        encoder = self._abstract(config, where=directory / "config.json")
        if self.attention != "xla":
            logging.getLogger("flaxft").info("attention: %s on TPU, without dropout on its weights", self.attention)
        stored = run.arrays if run else self._stored(directory)
        classifier = read_classifier(found / modules.classifier) if modules and modules.classifier and config.get("id2label") and stored else {}
        stored = {**stored, **classifier}
        names = sorted((tensor.name, tensor.shape) for tensor in stored.values())
        kinds = {architecture: kind for kind, architecture in encoder.architectures.items()}
        named = config.get("architectures") or []
        if not isinstance(named, list) or not all(isinstance(name, str) for name in named):
            raise UserError(f"{directory / 'config.json'}: architectures is {named!r}, expected a list of class names")
        kind = run.kind if run else next((kinds[name] for name in named if name in kinds), None)
        if classifier and kind == HEADLESS:
            kind = MEAN
        labels = run.labels if run else _labels(config, where=directory / "config.json") if kind in NAMED_HEADS else None
        has_label_names = labels is None or not all(PLACEHOLDER.fullmatch(label) for label in labels)
        if labels is None and kind in NAMED_HEADS:  # transformers leaves out id2label where a head has its default, two
            labels, has_label_names = tuple(f"LABEL_{i}" for i in range(_num_outputs(stored) or 2)), False
        if run:
            is_sentence_encoder = run.is_sentence_encoder
        else:
            is_sentence_encoder = _pools(modules, found) or (kind == HEADLESS and _has_untrained_pooler(stored, where=directory))
        return Checkpoint(
            name=self.path,
            directory=directory,
            config=config,
            encoder=encoder,
            kind=kind,
            labels=labels,
            fingerprint=hashlib.sha256(repr((sorted(config.items(), key=str), names, *([run.digest] if run else []))).encode()).hexdigest(),
            has_label_names=has_label_names,
            modules=modules,
            arrays=run.arrays if run else by_path(stored, encoder, where=directory) if kind == MEAN else None,
            is_sentence_encoder=is_sentence_encoder,
        )

    def load(
        self, checkpoint: Checkpoint, make_head: Callable[..., nnx.Module], *, reuse_head: bool, seed: int, labels: Sequence[str] = ()
    ) -> Loaded:
        """Reads the weights. The head comes from the checkpoint with `reuse_head`; otherwise what belongs to the pretrained model does, where it is there
        (a pooler), and the rest is initialised from `seed`. A new head of the same kind with other `labels` keeps what the old one learnt of those that
        are among them.

        Raises UserError that lists every tensor that is missing, unexpected or of another shape.
        """
        try:
            model = Model(checkpoint.encoder, make_head(checkpoint.encoder, rngs=nnx.Rngs(seed)))
        except UserError as error:
            raise UserError(f"{checkpoint.directory / 'config.json'}: {error}") from None
        graphdef, state = nnx.split(model, nnx.Param)
        wanted = flatten(nnx.to_pure_dict(state))
        if checkpoint.arrays is not None:  # of a run, which may have other heads
            stored = {path: tensor for path, tensor in checkpoint.arrays.items() if path in wanted or not path.startswith("head/")}
        else:
            stored = by_path(self._stored(checkpoint.directory), checkpoint.encoder, where=checkpoint.directory)
        pretrained = {key.path for key in checkpoint.encoder.keys if key.prefixed} & set(stored)
        # where several tasks have a head each, head/NAME/pooler reads what head/pooler would
        outer = {path: re.sub(r"^head/\w+/", "head/", path) for path in wanted}
        origin = {path: outer[path] if path not in stored and outer[path] in pretrained else path for path in wanted}
        fresh = () if reuse_head else tuple(path for path in wanted if path.startswith("head/") and origin[path] not in pretrained)
        _compare({origin[path]: tuple(leaf.shape) for path, leaf in wanted.items() if path not in fresh}, stored, checkpoint)
        flat = {path: leaf if path in fresh else read_array(stored[origin[path]], where=checkpoint.directory) for path, leaf in wanted.items()}
        if labels and not reuse_head:
            flat |= _with_known_labels({path: flat[path] for path in fresh if path in stored}, stored, labels=labels, checkpoint=checkpoint)
        return Loaded(graphdef=graphdef, params=unflatten(flat), encoder=checkpoint.encoder, fresh=fresh)

    def skeleton(self, config: Mapping[str, Any], make_head: Callable[..., nnx.Module], *, where: Path) -> Loaded:
        """The model of a saved run without its weights: params are ShapeDtypeStructs. `config` is the checkpoint's, read from `where`."""
        encoder = self._abstract(config, where=where)
        graphdef, state = nnx.split(nnx.eval_shape(lambda: Model(encoder, make_head(encoder, rngs=nnx.Rngs(0)))), nnx.Param)
        return Loaded(graphdef=graphdef, params=nnx.to_pure_dict(state), encoder=encoder, fresh=())

    def _stored(self, directory: Path) -> dict[str, Stored]:
        return stored_tensors(directory)

    def _abstract(self, config: Mapping[str, Any], *, where: Path) -> Any:
        family = _family(config, where)
        try:
            return nnx.eval_shape(lambda: self._build(family, config, seed=0))
        except UserError as error:
            raise UserError(f"{where}: {error}") from None

    def _build(self, family: type[Encoder], config: Mapping[str, Any], *, seed: int) -> Any:
        """The encoder, its parameters drawn from `seed`."""
        overrides = {
            "remat": self.remat or None,
            "attention": None if self.attention == "xla" else self.attention,
            "dtype": self.dtype,
            "hidden_dropout_prob": self.hidden_dropout,
            "attention_probs_dropout_prob": self.attention_dropout,
            "classifier_dropout": self.classifier_dropout,
        }
        known = {key: value for key, value in config.items() if key not in self.ignore}
        given = {key: value for key, value in overrides.items() if value is not None}
        return family.from_config(known | given, rngs=nnx.Rngs(seed))


def _with_known_labels(fresh: Mapping[str, Any], stored: Mapping[str, Stored], *, labels: Sequence[str], checkpoint: Checkpoint) -> dict[str, Any]:
    """The new arrays of a head with what the checkpoint's head learnt of the labels that both have; a head's labels lie along the last dim of its arrays.

    Of the labels a, b, c before and c, d now, c's column is copied and d's is new.
    """
    old = list(checkpoint.labels or ())
    both = [label for label in labels if label in old]
    changed: dict[str, Any] = {}
    for path, leaf in fresh.items() if both else ():
        shape = stored[path].shape
        if shape[:-1] == leaf.shape[:-1] and (shape[-1], leaf.shape[-1]) == (len(old), len(labels)):
            array, learnt = np.array(leaf), read_array(stored[path], where=checkpoint.directory)
            for label in both:
                array[..., list(labels).index(label)] = learnt[..., old.index(label)]
            changed[path] = array
    if changed:
        new, gone = [label for label in labels if label not in old], [label for label in old if label not in labels]
        parts = [f"{what}: {', '.join(map(str, names[:8]))}{' ...' if len(names) > 8 else ''}" for what, names in (("new", new), ("left out", gone)) if names]
        logging.getLogger("flaxft").info("%s: the head keeps what it learnt of %d labels%s", checkpoint.name, len(both), "".join(f"; {one}" for one in parts))
    return changed


@dataclass
class Untrained(Pretrained):
    """The encoder that a directory's config.json and tokenizer describe, with new weights: to pretrain one, or to see what pretraining was worth."""

    def load(
        self, checkpoint: Checkpoint, make_head: Callable[..., nnx.Module], *, reuse_head: bool, seed: int, labels: Sequence[str] = ()
    ) -> Loaded:
        if checkpoint.arrays is not None:
            raise UserError(f"model.path={checkpoint.name} is a run, whose weights an untrained model does not take; use Pretrained, or name its model/ folder")
        encoder = self._build(_family(checkpoint.config, checkpoint.directory), checkpoint.config, seed=seed)
        model = Model(encoder, make_head(encoder, rngs=nnx.Rngs(seed + 1)))  # another seed: the same one would draw the same numbers
        graphdef, state = nnx.split(model, nnx.Param)
        params = nnx.to_pure_dict(state)
        return Loaded(graphdef=graphdef, params=params, encoder=checkpoint.encoder, fresh=tuple(flatten(params)))

    def _stored(self, directory: Path) -> dict[str, Stored]:
        return {}


def write(
    directory: Path,
    params: Mapping[str, Any],
    encoder: Encoder,
    config: Mapping[str, Any],
    *,
    kind: str,
    labels: Sequence[str],
    problem_type: str | None = None,
    dtype: str = "float32",
) -> None:
    """Writes config.json and model.safetensors as PyTorch's `AutoModelFor...` of this head reads them. Raises UserError for a head that it has not got.

    kind: of the head; "embedding" writes the encoder alone, whatever head there is. config: the config.json of the checkpoint that the model began with.
    labels: the names of the head's outputs, in order; none for heads without.
    problem_type: Hugging Face's word for what a sequence head learnt; with "regression" the head has one output and no labels. dtype: of the weights, float32
    or bfloat16.
    """
    from safetensors.numpy import save_file

    text = _written_config(encoder, config, kind=kind, labels=labels, problem_type=problem_type, dtype=dtype)
    tensors = {}
    for path, array in flatten(params).items():
        if kind == HEADLESS and not path.startswith("encoder/"):
            continue
        name, transposed = hf_names(path, encoder, with_prefix=kind != HEADLESS)
        host = np.asarray(array, np.float32).astype(jnp.dtype(dtype))
        tensors[name] = np.ascontiguousarray(host.T if transposed else host)
    directory.mkdir(parents=True, exist_ok=True)
    save_file(tensors, directory / f"{SINGLE}.tmp", metadata={"format": "pt"})
    (directory / f"{SINGLE}.tmp").replace(directory / SINGLE)
    (directory / "config.json").write_text(text, encoding="utf-8")


def write_flax(
    directory: Path,
    params: Mapping[str, Any],
    encoder: Encoder,
    config: Mapping[str, Any],
    *,
    kind: str,
    labels: Sequence[str],
    problem_type: str | None = None,
) -> None:
    """Writes config.json and flax_model.msgpack as `FlaxAutoModelFor...` of transformers 4 reads them. The arguments are those of `write`. Raises UserError."""
    from flax import serialization

    text = _written_config(encoder, config, kind=kind, labels=labels, problem_type=problem_type, dtype="float32")
    arrays = {}
    for path, array in flatten(params).items():
        prefixed = next(key.prefixed for key, _ in _keys_of(path, encoder)) and kind != HEADLESS
        bare = path.partition("/")[2]  # without "encoder" or "head"
        arrays[f"{encoder.prefix}/{bare}" if prefixed else bare] = np.asarray(array, np.float32)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f"{MSGPACK}.tmp").write_bytes(serialization.msgpack_serialize(unflatten(arrays)))
    (directory / f"{MSGPACK}.tmp").replace(directory / MSGPACK)
    (directory / "config.json").write_text(text, encoding="utf-8")


def _written_config(encoder: Encoder, config: Mapping[str, Any], *, kind: str, labels: Sequence[str], problem_type: str | None, dtype: str) -> str:
    if kind not in encoder.architectures:
        others = "with --target=stablehlo, onnx or int8 the model is exported all the same, and with sentence_transformers where it pools by the mean"
        mend = f"{others}; a run with task.pooling=cls has a class" if kind == MEAN else others
        raise UserError(f"transformers has no {encoder.prefix} class with a {kind!r} head, only with {sorted(encoder.architectures)}; {mend}")
    numbered = {str(i): label for i, label in enumerate(labels)}
    changes: dict[str, Any] = {"architectures": [encoder.architectures[kind]], "dtype": dtype}
    if problem_type == "regression":
        numbered = {"0": "LABEL_0"}  # transformers counts a head's outputs by the names
    if numbered:
        changes |= {"id2label": numbered, "label2id": {label: int(i) for i, label in numbered.items()}}
    if problem_type:
        changes["problem_type"] = problem_type
    of_another_head = ("torch_dtype", "id2label", "label2id", "num_labels", "problem_type", "finetuning_task")
    return json.dumps({key: value for key, value in config.items() if key not in of_another_head} | changes, indent=2, ensure_ascii=False) + "\n"


def by_path(stored: Mapping[str, Stored], encoder: Encoder, *, where: Path) -> dict[str, Stored]:
    """The stored tensors under our paths and in our layout; names that are not in the family's key table stay as they are. Raises UserError."""
    patterns = [(re.compile(re.escape(key.hf).replace(re.escape("{i}"), r"(\d+)")), key) for key in encoder.keys]
    is_flax = any("/" in name for name in stored)  # flax_model.msgpack: our own paths, with the family's prefix for "encoder"
    wrappers = _wrappers(stored, encoder, is_flax=is_flax, where=where)
    found: dict[str, Stored] = {}
    for full_name, tensor in stored.items():
        name = full_name.removeprefix(next((wrapper for wrapper in wrappers if full_name.startswith(wrapper)), ""))
        path = _flax_path(name, encoder) if is_flax else _path(name, encoder.prefix, patterns)
        if path in found:
            raise UserError(f"{where}: {found[path].name} and {full_name} are two names of one tensor; save the model anew, with one of them")
        found[path] = tensor if is_flax else _oriented(tensor, name, encoder.prefix, patterns)
    return found


def _wrappers(stored: Mapping[str, Stored], encoder: Encoder, *, is_flax: bool, where: Path) -> list[str]:
    """What names begin with before the family's own: "module." of DataParallel, "model." of Lightning, a prefix written twice; the longest first.

    ["model.net.", "model."] where the table of words is model.net.bert.embeddings.word_embeddings.weight. Raises UserError for several encoders.
    """
    separator = "/" if is_flax else "."
    table = encoder.keys[0].path.removeprefix("encoder/") if is_flax else encoder.keys[0].hf  # of words, in every family
    places = sorted({name.removesuffix(table) for name in stored if name.endswith(table)}, key=len)
    if not places or places[0] in ("", f"{encoder.prefix}{separator}"):
        return []
    if len(places) > 1:
        raise UserError(f"{where}: the weights hold {len(places)} encoders, named {', '.join(places[:4])}; save the one to use on its own")
    outer = places[0].removesuffix(f"{encoder.prefix}{separator}")
    if not outer:
        return []
    logging.getLogger("flaxft").info("%s: the names of its weights begin with %r, which is left out", where, outer)
    parts = outer.removesuffix(separator).split(separator)
    return [separator.join(parts[:num]) + separator for num in range(len(parts), 0, -1)]


def hf_names(path: str, encoder: Encoder, *, with_prefix: bool) -> tuple[str, bool]:
    """The Hugging Face name of one of our paths, and whether PyTorch keeps it transposed."""
    for key, match in _keys_of(path, encoder):
        name = key.hf.replace("{i}", match[1]) if match.groups() else key.hf
        return (f"{encoder.prefix}.{name}" if with_prefix and key.prefixed else name), key.transpose
    raise AssertionError(f"{path} is not in the key table of {encoder.prefix}")


def _keys_of(path: str, encoder: Encoder) -> Iterator[tuple[Key, re.Match[str]]]:
    for key in encoder.keys:
        match = re.fullmatch(re.escape(key.path).replace(re.escape("{i}"), r"(\d+)"), path)
        if match:
            yield key, match


# ---- finding the model ------------------------------------------------------------------------------------------------------------------


def _find(path: str, revision: str | None) -> Path:
    if not path:
        raise UserError("model.path is empty; set --config.model.path to a model directory or a hub id such as google-bert/bert-base-cased")
    directory = Path(path).expanduser()
    if os.path.isdir(directory):  # unlike Path.is_dir, also of a name that is too long
        return directory
    if os.path.exists(directory):
        raise UserError(f"model.path={path} is a file, expected a directory with config.json, weights and tokenizer files")
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", path) or path.startswith(".") or (directory.parent != Path(".") and os.path.exists(directory.parent)):
        raise UserError(f"model.path={path}: no such directory; give a model directory or a hub id such as google-bert/bert-base-cased")
    if revision is not None and (".." in revision or not re.fullmatch(r"\w[\w./+-]*", revision)):
        raise UserError(f"model.revision={revision!r} is no branch, tag or commit; give one, or none for the newest")
    return _snapshot(path, revision)


def _snapshot(repository: str, revision: str | None) -> Path:
    import huggingface_hub
    from huggingface_hub import errors
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()
    huggingface_hub.logging.set_verbosity_error()
    try:
        return Path(huggingface_hub.snapshot_download(repository, revision=revision, allow_patterns=list(HUB_FILES)))
    except errors.RevisionNotFoundError:
        raise UserError(f"model.revision={revision!r} does not exist in {repository}; give a branch, tag or commit of it") from None
    except errors.GatedRepoError:
        raise UserError(f"model.path={repository} is gated; accept its terms on the hub and set HF_TOKEN") from None
    except errors.RepositoryNotFoundError:
        raise UserError(f"model.path={repository} is neither a directory here nor a model on the hub (private ones need HF_TOKEN); mend the name") from None
    except errors.HFValidationError as error:
        raise UserError(f"model.path={repository} is neither a directory here nor a hub id ({error}); mend the name") from None
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled, errors.HfHubHTTPError, OSError) as error:
        where = "no directory here, not in the hub's cache, and could not be fetched"
        raise UserError(f"model.path={repository} is {where} ({reason(error)}); give a directory, or connect to the hub") from None


def read_config(directory: Path) -> dict[str, Any]:
    """config.json. Raises UserError where it, or a file of the tokenizer, names code to run: transformers may be handed them, here or by a later user."""
    missing = f"{directory} holds no config.json; model.path needs a Hugging Face model directory"
    if (directory / "adapter_config.json").is_file():
        missing = f"{directory} holds an adapter and no model; {MERGE}"
    config = _read_object(directory / "config.json", cap=CONFIG_CAP, missing=missing)
    for name in TOKENIZER_CONFIGS:
        if (directory / name).is_file():
            _read_object(directory / name, cap=TOKENIZER_CAP, missing="")
    return config


def _read_object(file: Path, *, cap: int, missing: str) -> dict[str, Any]:
    content = read_json(file, cap=cap, missing=missing)
    if not isinstance(content, dict):
        raise UserError(f"{file}: a JSON {type(content).__name__}, expected an object")
    refused = sorted(key for key in content if REFUSED.fullmatch(key))
    if refused:
        raise UserError(f"{file}: {refused} ask for code or layouts that flaxft does not run; use a checkpoint without them")
    return content


def families() -> list[str]:
    """The names of all families: the files of this folder that bind `ENCODER`."""
    stems = sorted(file.stem for file in Path(__file__).parent.glob("*.py") if file.stem not in NO_FAMILIES)
    return [stem for stem in stems if hasattr(importlib.import_module(f"flaxft.models.{stem}"), "ENCODER")]


def _family(config: Mapping[str, Any], where: Path) -> type[Encoder]:
    """The encoder class of `models/<model_type>.py`, looked up in the package's own file list."""
    given = config.get("model_type")
    file = Path(__file__).parent / f"{given.replace('-', '_')}.py" if isinstance(given, str) and re.fullmatch(r"[a-z0-9_-]+", given) else None
    if file is not None and file.is_file() and file.stem not in NO_FAMILIES:
        family: type[Encoder] | None = getattr(importlib.import_module(f"flaxft.models.{file.stem}"), "ENCODER", None)
        if family is not None:
            return family
    raise UserError(f"{where}: {unknown_family(given, families())}")


def unknown_family(given: Any, known: Sequence[str]) -> str:
    """Why a model_type is none of the `known` ones, which are read: it is misspelt, it is missing, or it is another family's."""
    reads, more = f"flaxft reads {', '.join(known)}", "docs/migrating.md says what there is for others"
    if not isinstance(given, str) or not given.strip():
        return f"model_type is {given!r}; {reads}; if the weights are one of these, add a line such as \"model_type\": {json.dumps(known[0])}"
    plain = re.sub(r"[\s_-]+", "_", given.strip().lower())
    if plain in known and plain != given:
        return f"model_type is {given!r}, which is written {plain!r}; correct it there"
    if _is_known_elsewhere(plain):
        return f"model_type is {given!r}, another family of models; {reads}; take a checkpoint of these, and {more}"
    return f"model_type is {given!r}, which is no family of models; {reads}{nearest(plain, known)}; {more}"


def _is_known_elsewhere(name: str) -> bool:
    """Whether transformers has a family of this name: then it is no misspelling of another one."""
    try:
        from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
    except ImportError:
        return False
    return name in {one.replace("-", "_") for one in CONFIG_MAPPING_NAMES}


def _pools(modules: Modules | None, directory: Path) -> bool:
    """Whether the directory is one of sentence-transformers with a pooling."""
    if modules is not None:
        return modules.pooling is not None
    return any((directory / name).is_file() for name in SETTINGS)


def _has_untrained_pooler(stored: Mapping[str, Stored], *, where: Path) -> bool:
    """Whether an encoder comes with a pooler as it was drawn, whose bias is 0, and without a masked language model's head."""
    if any(re.search(r"(^|[./])(cls|predictions)[./]", name) for name in stored):
        return False
    biases = [tensor for name, tensor in stored.items() if re.search(r"(^|[./])pooler[./]dense[./]bias$", name)]
    return bool(biases) and not any(read_array(bias, where=where).any() for bias in biases)


def _num_outputs(stored: Mapping[str, Stored]) -> int | None:
    """Of a head that gives each label a score; None where the weights have no such."""
    biases = [tensor.shape for name, tensor in stored.items() if re.search(r"(^|[./])classifier[./]bias$", name)]
    return biases[0][0] if len(biases) == 1 and len(biases[0]) == 1 else None


def _labels(config: Mapping[str, Any], *, where: Path) -> tuple[str, ...] | None:
    names, numbers = config.get("id2label"), config.get("label2id")
    is_unnamed = names is None or (isinstance(names, dict) and all(PLACEHOLDER.fullmatch(str(name)) for name in names.values()))
    if is_unnamed and isinstance(numbers, dict) and len(numbers) == len(names or numbers) and len(set(map(str, numbers.values()))) == len(numbers):
        names = {number: name for name, number in numbers.items()}  # who gives names to transformers may give them in one direction alone
    if names is None:
        return None
    try:
        numbered = {int(number): str(name) for number, name in names.items()}
    except (AttributeError, ValueError):
        raise UserError(f"{where}: id2label is {names!r}, expected an object of number -> name") from None
    if sorted(numbered) != list(range(len(numbered))):
        raise UserError(f"{where}: id2label has the numbers {sorted(numbered)}, expected 0 to {len(numbered) - 1}")
    return tuple(numbered[i] for i in range(len(numbered)))


# ---- names --------------------------------------------------------------------------------------------------------------------------------------

Patterns = list[tuple[re.Pattern[str], Key]]


def _match(name: str, prefix: str, patterns: Patterns) -> tuple[Key, re.Match[str]] | None:
    bare = name.removeprefix(f"{prefix}.")
    bare = re.sub(r"LayerNorm\.gamma$", "LayerNorm.weight", re.sub(r"LayerNorm\.beta$", "LayerNorm.bias", bare))  # TensorFlow-era names
    return next(((key, match) for pattern, key in patterns if (match := pattern.fullmatch(bare))), None)


def _path(name: str, prefix: str, patterns: Patterns) -> str:
    found = _match(name, prefix, patterns)
    if not found:
        return name
    key, match = found
    return key.path.replace("{i}", match[1]) if match.groups() else key.path


def _oriented(tensor: Stored, name: str, prefix: str, patterns: Patterns) -> Stored:
    found = _match(name, prefix, patterns)
    if not found or not found[0].transpose or len(tensor.shape) != 2:
        return tensor
    return Stored(tensor.name, tensor.shape[::-1], lambda: tensor.read().T)


def _flax_path(name: str, encoder: Encoder) -> str:
    bare = name.removeprefix(f"{encoder.prefix}/")
    heads = {key.path.removeprefix("head/") for key in encoder.keys if key.path.startswith("head/") and (key.prefixed or bare == name)}
    return f"head/{bare}" if bare in heads else f"encoder/{bare}"


def _compare(wanted: Mapping[str, tuple[int, ...]], stored: Mapping[str, Stored], checkpoint: Checkpoint) -> None:
    """Raises UserError where the encoder, or the part of a head that is read, is not what config.json describes; tells what else the file holds."""
    encoder, where = checkpoint.encoder, checkpoint.directory
    missing = [path for path in wanted if path not in stored]
    shapes = [f"{stored[p].name} is {stored[p].shape}, expected {shape}" for p, shape in wanted.items() if p in stored and stored[p].shape != shape]
    not_read = {path: tensor.name for path, tensor in stored.items() if path not in wanted}
    known = [name for path, name in not_read.items() if _is_known_head(path, encoder)]
    inner = [name for path, name in not_read.items() if name not in known and _is_inner(path, name, encoder)]
    foreign = [name for name in not_read.values() if name not in known and name not in inner]
    unexpected = [*inner, *(foreign if missing else [])]  # of a file that lacks something, all that it holds may be the reason
    kinds = (("missing", missing), ("of another shape", shapes), ("unexpected", unexpected))
    problems = [f"{len(names)} {what}: {_listed(names)}" for what, names in kinds if names]
    if problems:
        raise UserError(f"{where}: the weights do not fit config.json: {'; '.join(problems)}; {_mend(wanted, missing, shapes, unexpected)}")
    log = logging.getLogger("flaxft")
    if foreign:
        log.warning("%s: %d tensors are of a head that flaxft does not know, and are not used: %s", checkpoint.name, len(foreign), _listed(foreign))
    if known:
        log.info("%s: %d tensors are not used: %s", checkpoint.name, len(known), ", ".join(sorted(known)[:6]))


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names[:8])}{' ...' if len(names) > 8 else ''}"


def _is_known_head(path: str, encoder: Encoder) -> bool:
    """Whether a tensor that is not read is of one of the family's own heads, or one that its checkpoints hold for nothing."""
    heads = {key.path.replace("{i}", "0") for key in encoder.keys if key.path.startswith("head/")}
    bare = path.removeprefix("encoder/").replace("/", ".").removeprefix(f"{encoder.prefix}.")
    return path in heads or re.fullmatch("|".join(encoder.unused), bare) is not None


def _is_inner(path: str, name: str, encoder: Encoder) -> bool:
    """Whether a name that no key has lies within the encoder: what it adds there would change what is computed. Others are of some head."""
    tops = {key.hf.partition(".")[0] for key in encoder.keys if key.path.startswith("encoder/")}
    top = re.split(r"[./]", path.removeprefix("encoder/"))[0]
    return top in (*tops, encoder.prefix) or re.split(r"[./]", name)[0] == encoder.prefix


def _mend(wanted: Mapping[str, tuple[int, ...]], missing: Sequence[str], shapes: Sequence[str], unexpected: Sequence[str]) -> str:
    """What to do about weights that do not fit: of another size, incomplete, of something else, or with parts that are not computed here."""
    if any(re.search(r"\blora_|\bbase_layer\b", name) for name in unexpected):
        return f"there is an adapter among them; {MERGE}"
    if shapes:
        return "use the config.json that belongs to the weights"
    if missing and all(path in missing for path in wanted if path.startswith("encoder/")):
        return "no tensor of the encoder is there by its name; save the model by the names of transformers, or use another checkpoint"
    if missing:
        return "fetch the whole model, or use the config.json that belongs to the weights"
    return "flaxft does not compute these parts of the encoder; use a checkpoint without them"
