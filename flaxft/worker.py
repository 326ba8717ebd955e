"""A process that tokenises for another one, which starts it: `python -m flaxft.worker FD`."""

from __future__ import annotations

import json
import sys
from multiprocessing.connection import Connection
from typing import Any

from flaxft import config as configs
from flaxft.data.tokenize import SubwordTokenizer
from flaxft.data.workers import Workers, serve
from flaxft.errors import UserError
from flaxft.tasks.base import Task


def start(num: int, *, task: Task, tokenizer: SubwordTokenizer) -> Workers | None:
    """So many workers for a task. None where they could not make it from its fields: one of a class of the user's own, for example."""
    fields = configs.to_json(task)
    try:
        found = configs.from_json(json.loads(json.dumps(fields)), "task")
    except (UserError, TypeError, ValueError):
        return None
    if type(found) is not type(task) or configs.to_json(found) != fields:
        return None
    setup = json.dumps([fields, tokenizer.backend.to_str(), tokenizer.max_length, tokenizer.fingerprint])
    return Workers(num, module="flaxft.worker", setup=setup.encode())


def main(descriptor: int) -> None:
    connection: Connection[Any, Any] = Connection(descriptor)
    try:
        setup = connection.recv_bytes()
    except EOFError:
        return
    from tokenizers import Tokenizer

    fields, backend, max_length, fingerprint = json.loads(setup)
    tokenizer = SubwordTokenizer(Tokenizer.from_str(backend), max_length=max_length)
    assert tokenizer.fingerprint == fingerprint, "this tokenizer cannot be made from its JSON"
    serve(connection, configs.from_json(fields, "task"), tokenizer)


if __name__ == "__main__":
    main(int(sys.argv[1]))
