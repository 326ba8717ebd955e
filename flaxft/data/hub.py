"""Data sets of the Hugging Face hub, and of its cache."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flaxft.data.base import Records, Source
from flaxft.data.spool import Packed
from flaxft.errors import UserError, nearest, reason

ROWS = 1024  # that are Python objects at a time


def open_hub(path: str, *, split: str, max_examples: int | None) -> Source:
    """The rows of `hub:NAME[/SUBSET][@REVISION][#SPLIT]`, class labels as their names. Raises UserError.

    `#SPLIT` is for data sets that call their splits otherwise: `hub:org/name#dev`.
    """
    dataset = _load_hub(path.partition("#")[0], split=path.partition("#")[2] or split)
    # `datasets` makes this fingerprint from the name, the subset, the commit and the split: equal in every process.
    fingerprint = hashlib.sha256(repr((dataset._fingerprint, max_examples)).encode()).hexdigest()
    if max_examples is not None:
        dataset = dataset.select(range(min(max_examples, len(dataset))))
    records, labels = Packed(), _class_labels(dataset.features)
    for start in range(0, len(dataset), ROWS):
        for record in dataset.select(range(start, min(start + ROWS, len(dataset)))).to_list():
            records.append(record | {column: _label_names(record[column], label.names) for column, label in labels.items()})
    if not records:
        raise UserError(f"{path}: split {split!r} holds no records; choose another")
    return Records(path, fingerprint, records, range(len(records)), where_format=": row {}")


def _load_hub(path: str, *, split: str) -> Any:
    import datasets
    import huggingface_hub

    datasets.disable_progress_bars()
    huggingface_hub.utils.disable_progress_bars()
    datasets.logging.set_verbosity_error()
    huggingface_hub.logging.set_verbosity_error()
    asked, _, revision = path.removeprefix("hub:").partition("@")
    if any(part in (".", "..") for part in re.split(r"[/\\]", f"{asked}/{revision}")):
        raise UserError(f"{path}: a name or revision with . or .. leads out of the hub's cache; expected hub:NAME[/SUBSET][@REVISION]")
    names = _hub_names(asked, path)
    asked_offline = datasets.config.HF_HUB_OFFLINE
    # Left alone, the library asks a dead network again and again, for 23 s and more, before it looks into its cache.
    offline = datasets.config.HF_HUB_OFFLINE = asked_offline or not _hub_answers()
    failed = []
    try:
        for name, subset in names:
            try:
                found = _load_splits(name, subset, revision, offline=offline)
            except Exception as error:  # noqa: BLE001  datasets, huggingface_hub, httpx, fsspec, yaml and pyarrow each raise their own
                failed.append(f"{name!r}{f' with subset {subset!r}' if subset else ''} ({reason(error)})")
                continue
            if split not in found:
                raise UserError(f"{path}: no split {split!r}; found {', '.join(found)}{nearest(split, found)}; name one as {path}#SPLIT")
            return found[split]
    finally:
        datasets.config.HF_HUB_OFFLINE = asked_offline
    tried = f"tried {' and '.join(failed)}"
    if offline:
        why = "HF_HUB_OFFLINE is set" if asked_offline else f"{huggingface_hub.constants.ENDPOINT} does not answer"
        hint = f"the cache {datasets.config.HF_DATASETS_CACHE} has not got it; load it once online, and write its name in full (org/name)"
        raise UserError(f"{path}: {why} and {hint}; {tried}")
    raise UserError(f"{path}: {tried}; check the name, the subset and the revision, and for a private or gated data set HF_TOKEN")


def _load_splits(name: str, subset: str | None, revision: str, *, offline: bool) -> Any:
    """A dict of splits. Raises whatever the libraries raise."""
    import datasets
    import huggingface_hub

    if "/" not in name and not offline:
        # The hub moved the old one-word names (glue is nyu-mll/glue now), and huggingface_hub 2 refuses them in addresses of files.
        name = huggingface_hub.HfApi().dataset_info(name, timeout=10).id
    if Path(name).exists():
        raise ValueError(f"the folder {name} here would be read in its stead; start from another folder")
    found = datasets.load_dataset(name, subset, revision=revision or None)
    if revision:
        # Without network the library takes the newest commit of its cache, whatever the revision asked for.
        commit = Path(next(iter(found.values())).cache_files[0]["filename"]).parent.name
        ref = Path(huggingface_hub.constants.HF_HUB_CACHE, f"datasets--{name.replace('/', '--')}", "refs", revision)
        if commit not in (revision, ref.read_text() if ref.is_file() else None):
            raise ValueError(f"revision {revision!r} is not in the cache, which holds commit {commit}")
    return found


def _hub_answers() -> bool:
    import huggingface_hub

    try:
        huggingface_hub.get_session().head(huggingface_hub.constants.ENDPOINT, timeout=5)
    except (OSError, huggingface_hub.errors.HTTPError):
        return False
    return True


def _hub_names(name: str, path: str) -> list[tuple[str, str | None]]:
    """The (repository, subset) pairs that a name may mean, the likelier first: `glue/sst2` can be either."""
    import pkgutil

    import datasets.packaged_modules

    match name.split("/"):
        case [one] if one:
            pairs: list[tuple[str, str | None]] = [(one, None)]
        case [one, two] if one and two:
            pairs = [(f"{one}/{two}", None), (one, two)]
        case [one, two, three] if one and two and three:
            pairs = [(f"{one}/{two}", three)]
        case _:
            raise UserError(f"{path}: expected hub:NAME[/SUBSET][@REVISION], for example hub:org/name or hub:org/name/subset@main")
    # `load_dataset("csv")` would read the CSV files of the working directory.
    readers = {module.name for module in pkgutil.iter_modules(datasets.packaged_modules.__path__)}
    if pairs := [pair for pair in pairs if pair[0] not in readers]:
        return pairs
    raise UserError(f"{path}: {name!r} is a file format of the datasets library, not a data set; give hub:org/name")


def _class_labels(features: Any) -> dict[str, Any]:
    """The columns that hold class labels, or (nested) lists of them."""
    import datasets

    labels = {}
    for column, feature in features.items():
        while isinstance(feature, (datasets.List, datasets.LargeList)):
            feature = feature.feature
        if isinstance(feature, datasets.ClassLabel):
            labels[column] = feature
    return labels


def _label_names(value: Any, names: Sequence[str]) -> Any:
    if isinstance(value, list):
        return [_label_names(item, names) for item in value]
    return None if value is None or value < 0 else names[value]  # -1 marks an unlabelled test split, as in GLUE
