"""Several processes of one run, one per host: how they find each other, wait for each other, and agree."""

from __future__ import annotations

import contextlib
import itertools
import os
from typing import Any

from flaxft.errors import UserError

TIMEOUT = 600  # seconds that a process waits for the others
_numbers = itertools.count()  # every process meets the same barriers in the same order


def start() -> None:
    """Joins the other processes where the environment says that there are any; called once, before jax is used. Raises UserError.

    FLAXFT_COORDINATOR=HOST:PORT, FLAXFT_NUM_PROCESSES and FLAXFT_PROCESS_ID say it outright; FLAXFT_DISTRIBUTED=1 alone leaves it to jax, which knows
    Cloud TPU, GKE, Slurm and Open MPI.
    """
    names = ("FLAXFT_COORDINATOR", "FLAXFT_NUM_PROCESSES", "FLAXFT_PROCESS_ID")
    given = [name for name in names if os.environ.get(name)]
    if not given and not os.environ.get("FLAXFT_DISTRIBUTED"):
        return
    if given and given != list(names):
        raise UserError(f"{', '.join(given)} set without {', '.join(sorted({*names} - {*given}))}; set all three, or FLAXFT_DISTRIBUTED=1 alone")
    import jax

    try:
        if given:
            coordinator, num_processes, process_id = (os.environ[name] for name in names)
            jax.distributed.initialize(coordinator, num_processes=int(num_processes), process_id=int(process_id))
        else:
            jax.distributed.initialize()
    except (ValueError, RuntimeError) as error:
        raise UserError(f"the processes of this run did not find each other ({error}); look at {', '.join(names)}") from None


def is_first() -> bool:
    import jax

    return jax.process_index() == 0


def barrier() -> None:
    """Returns when every process has come here. Raises UserError where one does not come."""
    client = _client()
    if client is None:
        return
    try:
        client.wait_at_barrier(f"flaxft-{next(_numbers)}", TIMEOUT * 1000)
    except RuntimeError as error:
        raise UserError(f"another process of this run is gone ({str(error).splitlines()[0]}); start all of them again") from None


def propose(key: str, value: int) -> int:
    """The value that the first process to call this gave: all that call it get the same."""
    client = _client()
    if client is None:
        return value
    with contextlib.suppress(RuntimeError):  # another process was first
        client.key_value_set(f"flaxft/{key}", str(value))
    return int(client.blocking_key_value_get(f"flaxft/{key}", TIMEOUT * 1000))


def proposed(key: str) -> int | None:
    """What was proposed so far, without waiting."""
    client = _client()
    if client is None:
        return None
    try:
        return int(client.key_value_try_get(f"flaxft/{key}"))
    except RuntimeError:  # nothing yet
        return None


def _client() -> Any:
    """jax's connection to its coordination service; None where there is one process. jax itself offers barriers over devices only, which compile a program."""
    import jax

    if jax.process_count() == 1:
        return None
    from orbax.checkpoint import multihost

    return multihost.get_jax_distributed_client()
