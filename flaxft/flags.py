"""The sub-commands and flags of the command line, with what help says of each; imports nothing, so that help is there at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Subcommand(NamedTuple):
    """takes: what its words without dashes are, in their order: "start" is a file of data, a config or a run, each once; "*" goes on."""

    usage: str
    meaning: str
    takes: tuple[str, ...]
    examples: tuple[str, ...]


class Flag(NamedTuple):
    """meaning: what it is, or that by sub-command. modes: the sub-commands that take it; empty is all of them."""

    value: str
    meaning: str | Mapping[str, str]
    modes: tuple[str, ...] = ()

    def meaning_for(self, mode: str) -> str:
        return self.meaning if isinstance(self.meaning, str) else self.meaning[mode]


SUBCOMMANDS = {
    "train": Subcommand(
        "[CONFIG] [FILE]", "train on a file or by a config, and score; run again, it resumes", ("start", "start"),
        ("flaxft train tickets.csv", "flaxft train --config=ner --workdir=runs/ner", "flaxft train tickets.csv --model=google-bert/bert-base-uncased",
         "flaxft train intent tickets.csv --config.optim.learning_rate=3e-4"),
    ),
    "eval": Subcommand(
        "RUN", "score every split of a run, or of a fine-tuned model", ("workdir",),
        ("flaxft eval runs/tickets", "flaxft eval runs/tickets --config.task.test=new.csv"),
    ),
    "predict": Subcommand(
        "RUN FILE", "apply a run to a file; a JSON line comes out for each record", ("workdir", "input"),
        ("flaxft predict runs/tickets new.csv", "flaxft predict runs/tickets new.csv --output=predicted.jsonl"),
    ),
    "export": Subcommand(
        "RUN", "write a run's model for others: Hugging Face, ONNX, StableHLO, ...", ("workdir",),
        ("flaxft export runs/tickets", "flaxft export runs/tickets --target=onnx"),
    ),
    "report": Subcommand("RUN", "write the page of a run again: curves, scores and mistakes", ("workdir",), ("flaxft report runs/tickets",)),
    "compare": Subcommand(
        "RUN RUN ...", "show runs side by side; seeds of one run are one row", ("*",),
        ("flaxft compare runs/a runs/b", "flaxft compare runs/* --output=table.md"),
    ),
    "doctor": Subcommand(
        "[CONFIG | RUN] [FILE]", "look at a file, config or run without training; or at this machine", ("start", "start"),
        ("flaxft doctor", "flaxft doctor tickets.csv", "flaxft doctor --config=ner", "flaxft doctor runs/ner"),
    ),
    "compile": Subcommand(
        "[CONFIG | RUN]", "compile the largest step: its memory and speed, here or on a TPU", ("start",),
        ("flaxft compile --config=ner", "flaxft compile --config=ner --topology=v5e:2x4"),
    ),
    "init": Subcommand(
        "FILE", "look at a file and write a config for it, to change", ("data",),
        ("flaxft init tickets.csv", "flaxft init tickets.csv --output=my_tickets.py"),
    ),
}  # fmt: skip

FIRST = "train"  # what is done where no sub-command is given
BY_CONFIG = ("train", "eval", "predict", "export", "doctor", "compile")

FLAGS = {
    "config": Flag(
        "CONFIG", "a config by name (ner, intent, glue:sst2) or a Python file with get_config(); NAME:ARG hands it ARG. With RUN none is needed",
        BY_CONFIG,
    ),
    "workdir": Flag("DIR", "where the run lives; the default is runs/NAME, after the file or config", (*BY_CONFIG, "report")),
    "model": Flag("MODEL", "the encoder: a directory, or a hub id such as google-bert/bert-base-uncased; short for --config.model.path", (*BY_CONFIG, "init")),
    "seeds": Flag("N", "so many runs, of the seeds 1 to N, in DIR/seed-1, DIR/seed-2, ...; ends with mean and spread of every score", ("train",)),
    "from": Flag("RUN", "begin with the weights of that finished run, in a workdir of its own", ("train",)),
    "input": Flag(
        "FILE", "what a split may be (csv, tsv, jsonl, json, parquet, conll, hub:NAME, ...), or .txt with one text a line; its labels are not read. "
        "The same as the word after RUN", ("predict",),
    ),
    "keep": Flag("COLUMNS", "columns of the input that come back, such as --keep=id,date; * is all of them", ("predict",)),
    "top_k": Flag("K", "so many scores of labels a text, the largest; 3 where nothing is said, or all", ("predict",)),
    "output": Flag(
        "FILE", {
            "predict": "a file for the lines instead of the terminal, whole or not there", "export": "a folder instead of RUN/export/TARGET",
            "compare": "a file NAME.md for the table, and its picture beside it", "init": "the config file; the default is NAME.py here, after the data",
        }, ("predict", "export", "compare", "init"),
    ),
    "target": Flag("TARGET", "hf (the default; of heads over the mean sentence_transformers), flax_msgpack, stablehlo, onnx, int8, ...", ("export",)),
    "task": Flag("NAME", "one task of a run of several; without it each goes into a folder of its own", ("export",)),
    "dtype": Flag("DTYPE", "of the weights in an export to hf: float32 (the default) or bfloat16", ("export",)),
    "topology": Flag("TPU", "a TPU such as v5e:2x4, v5e:16x16, v5p:2x2x1 or v6e:2x4; needs flaxft[tpu] and no TPU", ("compile",)),
    "mode": Flag("COMMAND", "the same as the sub-command, for python -m flaxft.main"),
}  # fmt: skip
