"""One run, read from top to bottom: open, plan, build, compile, restore, train, evaluate."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import functools
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from flaxft import errors, files, processes, recipe
from flaxft.checkpoint import Checkpointer
from flaxft.config import Config
from flaxft.data.base import Batch
from flaxft.data.packing import Shape
from flaxft.data.pipeline import Pipeline, workload
from flaxft.data.workers import num_cpus
from flaxft.errors import DiskError, Interrupted, NonFiniteError, UserError
from flaxft.log import LineHandler, Writer
from flaxft.models.base import flatten
from flaxft.optim import make_schedule, make_tx
from flaxft.runtime import free_heap
from flaxft.sharding import infer, make_mesh, num_row_shards, put, rows
from flaxft.tasks.base import fits_head, fits_kind
from flaxft.train import prepare
from flaxft.train import state as states
from flaxft.train.callbacks import Callback, Callbacks
from flaxft.train.evaluate import Evaluator, Metric, Result, eval_shape, improves, without_most_labels
from flaxft.train.finish import Trained, finish
from flaxft.train.lock import Lock
from flaxft.train.meter import Meter
from flaxft.train.parameters import parameters
from flaxft.train.signals import Signals
from flaxft.train.step import TrainStep, make_loss_fn
from flaxft.watchdog import Heartbeat

NON_FINITE_LIMIT = 5  # skipped steps in a row after which the run stops
AHEAD = 2  # steps dispatched beyond the one that is computed: enough to hide the host, few enough to stop soon on a signal
# On CPU the device is the host: there is nothing to hide, and each step that waits holds its scratch memory (234 MB for MiniLM on WNUT-17).
AHEAD_OF = {"cpu": 0}


def run(
    cfg: Config, workdir: str | Path, *, callbacks: Sequence[Callback] = (), metrics: Mapping[str, Metric] | None = None
) -> dict[str, Any]:  # fmt: skip
    """Trains, evaluates every split that has a path with the best weights, and returns what results.json holds. Run again, it resumes.

    callbacks: objects that are told of log lines, evaluations, checkpoints and the end. metrics: functions of your own by name, of a split's records and what
    is predicted of each (the dicts of predictions/SPLIT.jsonl), which are scored and logged beside the task's.

    Raises UserError and Interrupted (a checkpoint was saved before); both have an `exit_code`.
    """
    workdir = files.path(workdir)
    writer = Writer(workdir, is_first_process=processes.is_first(), log=cfg.log)
    handler = LineHandler(writer)
    logging.getLogger("flaxft").addHandler(handler)
    logging.getLogger("flaxft").setLevel(logging.INFO)
    try:
        cfg.check()
        with contextlib.closing(writer), Signals() as signals, Heartbeat(cfg.watchdog, workdir) as heart, contextlib.ExitStack() as stack:
            return _run(cfg, workdir, writer, signals, heart, stack, Callbacks(callbacks), metrics or {})
    except OSError as error:
        if error.errno not in errors.DISK_ERRORS:
            raise
        last = Checkpointer(workdir / "checkpoints", keep=1, is_first_process=False).steps()[-1:]
        good = f"the last good step is {last[0]}, the same command goes on from there" if last else "no step was saved"
        raise DiskError(f"{error.filename or workdir}: {error.strerror}; free space, or give another --workdir; {good}") from None
    finally:
        logging.getLogger("flaxft").removeHandler(handler)


def _run(
    cfg: Config, workdir: Path, writer: Writer, signals: Signals, heart: Heartbeat, stack: contextlib.ExitStack, calls: Callbacks,
    own_metrics: Mapping[str, Metric],
) -> dict[str, Any]:  # fmt: skip
    def poll() -> None:
        """Called all along: says that the run lives, and raises Interrupted where it is to stop."""
        heart.beat()
        signals.poll()

    # ---- what is asked, and the data: nothing is written before all of it is found sound --------------------------------------------------------
    prepare.check_writable(workdir)
    mesh = make_mesh(cfg.mesh)
    checkpoint = cfg.model.open()
    cfg, of_encoder = recipe.of_encoder(cfg, checkpoint)
    inputs = prepare.open_inputs(cfg, checkpoint, poll=poll)
    task, records, items = inputs.task, inputs.records, inputs.items
    if "train" not in items:
        raise UserError("task.train is empty; set --config.task.train=FILE, or use --mode=eval")
    cfg, of_data = recipe.of_data(dataclasses.replace(cfg, task=task), checkpoint, num_examples=len(items["train"]))
    choices = of_encoder + of_data
    num_steps = prepare.num_steps_of(cfg, items["train"])
    schedule = make_schedule(cfg.optim, num_steps)
    reuse_head = fits_head(task, checkpoint)
    known = task.labels if fits_kind(task, checkpoint) else ()
    loaded = cfg.model.load(checkpoint, task.head, reuse_head=reuse_head, labels=known, seed=cfg.seed)
    prepare.say_origin(checkpoint, task, reuse_head=reuse_head)
    prepare.make_workdir(workdir)
    if processes.is_first():
        stack.enter_context(Lock(workdir))
    facts = prepare.claim_workdir(cfg, checkpoint, inputs, workdir)

    # ---- the plan: which items, in which rows ---------------------------------------------------------------------------------------------------
    plan = prepare.read_or_make_plan(cfg, checkpoint, inputs, mesh, workdir, num_steps=num_steps)
    pipeline = Pipeline(items["train"], task.spec(), seed=cfg.seed, num_devices=num_row_shards(mesh), augment=task.augment)
    evals = {name: one for name, one in cfg.evals.items() if name in items}
    scored = [name for name in items if name != "train" or name in evals]
    sizes = {"tokens": cfg.data.eval_tokens, "hidden_size": checkpoint.encoder.hidden_size, "num_slots": cfg.data.num_slots}
    shape = eval_shape([items[name] for name in scored], mesh=mesh, **sizes)

    # ---- the model and its state ----------------------------------------------------------------------------------------------------------------
    tx = make_tx(cfg.optim, schedule)
    params = put(loaded.params, infer(loaded.params, loaded.encoder.sharding, mesh))
    create = functools.partial(states.create, loaded.graphdef, tx=tx)
    shardings = infer(jax.eval_shape(create, params), loaded.encoder.sharding, mesh)
    # Under jit, where no array lies whole on one device, and each buffer is the runtime's own: one of numpy's cannot be donated, which costs a second state.
    state = jax.jit(create, out_shardings=shardings)(params)
    for line in prepare.describe(cfg, inputs, plan, state, mesh, loaded.fresh):
        writer.line(line)
    writer.line(recipe.line(choices))
    writer.table("Parameters", *parameters(state))
    for name in set(cfg.evals) - set(evals):
        writer.line(f"note: evals names {name}, which has no path; {'it is not scored' if evals else 'without scores the last weights are the best'}")
    del loaded, params

    # ---- every shape is compiled before the first step ------------------------------------------------------------------------------------------
    began = time.perf_counter()
    step_fn = TrainStep(make_loss_fn(task, state.graphdef), tx, seed=cfg.seed, shardings=shardings)
    evaluator = Evaluator(task, state.graphdef, mesh, metrics=own_metrics)

    def empty(shape: Shape) -> Batch:
        return put(pipeline.empty(shape), rows(mesh))

    threads = concurrent.futures.ThreadPoolExecutor(min(4, num_cpus()))  # XLA compiles outside the GIL, and what it reads from the cache inside
    jobs = [threads.submit(step_fn.compile_update, state)] if num_steps else []
    jobs += [threads.submit(step_fn.compile, state, empty(one)) for one in (plan.shapes if num_steps else ())]
    if num_steps and not plan.fits:
        jobs.append(threads.submit(step_fn.compile_accumulation, state, empty(plan.shapes[-1])))
    if scored:
        jobs.append(threads.submit(evaluator.compile, state.params, state.frozen, pipeline, shape))
    threads.shutdown(wait=False)  # what XLA has begun it ends: who is interrupted here does not wait for that
    waiting = set(jobs)
    while waiting:
        waiting = concurrent.futures.wait(waiting, timeout=0.2).not_done
        poll()
    for job in jobs:
        job.result()
    free_heap()  # of what compiling took

    # ---- restore --------------------------------------------------------------------------------------------------------------------------------
    checkpointer = Checkpointer(workdir / "checkpoints", keep=cfg.checkpoint.keep, facts=facts, is_first_process=processes.is_first())
    like = jax.tree.map(lambda a, s: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=s), states.saved(state), states.saved(shardings))
    step = 0
    progress: dict[str, Any] = {"best": None, "bad_evals": 0, "stopped": False, "evaluated": 0, "calibration": None, "totals": None}
    stack.callback(checkpointer.close)
    found = checkpointer.restore_newest(like)
    if found:
        step, parts, progress = found
        state = states.restored(state, parts)
        checkpointer.settle(step, progress)
    writer.cut(step)
    num_dense = sum(leaf.size for path, leaf in flatten(state.params).items() if not path.endswith("/embedding"))
    meter = Meter(writer, schedule, num_steps=num_steps, num_dense=num_dense, devices=mesh.devices.ravel().tolist(), totals=progress["totals"])
    stack.callback(meter.close)
    progress["totals"] = meter.totals
    writer.line(f"compiled in {time.perf_counter() - began:.1f} s; {f'resumed from step {step}' if found else 'starting'}, {num_steps} steps in all")

    def is_due(name: str) -> bool:
        return step == num_steps or step % (evals[name].every or plan.steps_per_epoch) == 0

    def evaluate() -> dict[str, dict[str, float]]:
        """Scores the splits that are due and keeps the record of the best; the first split of the config decides."""
        found, after = {}, dict(progress)  # who is interrupted here has evaluated nothing
        for name in filter(is_due, evals):
            calibration = None if name == next(iter(evals)) else after["calibration"]
            result = evaluator.evaluate(state.params, state.frozen, items[name], records[name], shape, calibration=calibration, poll=poll)
            found[name] = without_most_labels(result.metrics, main_metric=task.main_metric)
            shown = {key: value for key, value in result.metrics.items() if "/" not in key and not key.startswith("num_")}
            writer.scores(step, name, shown)
            calls.on_evaluation(step, name, result.metrics)
            if calibration is None:
                after["calibration"] = result.calibration
                better, value = improves(result.metrics, task.main_metric, after["best"] and after["best"]["value"])
                after["bad_evals"] = 0 if better else after["bad_evals"] + 1
                if better:
                    after["best"] = {"step": step, "split": name, "metric": task.main_metric, "value": value, "calibration": result.calibration}
                after["stopped"] = 0 < evals[name].patience <= after["bad_evals"]
        progress.update(after, evaluated=step)
        return found

    def save() -> None:
        writer.sync()  # before the checkpoint, which must not know more than the file
        checkpointer.save(step, states.saved(state), progress)
        calls.on_checkpoint(step, workdir / "checkpoints" / str(step))

    # ---- train ----------------------------------------------------------------------------------------------------------------------------------
    batches = pipeline.batches(plan, step, num_steps, threads=cfg.data.threads)
    ahead = AHEAD_OF.get(mesh.devices.flat[0].platform, AHEAD)
    try:
        if step != progress["evaluated"] or (num_steps == 0 and not found):
            writer.amend(step, evaluate())  # the process died between this step and its evaluation
            save()
        meter.restart()
        while step < num_steps and not progress["stopped"]:
            poll()
            signals.poll_step(step, ahead=ahead)
            with meter.waiting():
                micro_batches = next(batches)
            state, metrics = step_fn(state, [put(batch, rows(mesh)) for batch in micro_batches])
            step += 1
            meter.add(step, metrics, workload(micro_batches))
            meter.block(ahead=ahead)
            evaluates, saves = any(map(is_due, evals)), step % cfg.checkpoint.every == 0 or step == num_steps
            if not (evaluates or saves or step % cfg.log.every == 0):
                continue
            stuck = next((at for at, in_a_row in meter.fetch().items() if in_a_row >= NON_FINITE_LIMIT), None)  # any, not only the newest
            if stuck is not None:
                steps = range(stuck - NON_FINITE_LIMIT, stuck)
                raise NonFiniteError(prepare.not_finite(inputs, {s + 1: pipeline.record_ids(plan, s) for s in steps}, workdir))
            calls.on_log(step, meter.write(evals=evaluate() if evaluates else None))
            if saves or progress["stopped"] or (evaluates and (progress["best"] or {}).get("step") == step):
                save()
                meter.restart()
        checkpointer.wait()
    except Interrupted as stop:
        meter.fetch()
        meter.write()
        save()
        checkpointer.wait()
        raise Interrupted(stop.exit_code - 128, f"{stop}; saved at step {step} of {num_steps}, the same command goes on from there") from None
    finally:
        writer.stop_progress()

    # ---- with the best weights, every split, once -----------------------------------------------------------------------------------------------
    best: dict[str, Any] = progress["best"] or {"step": step, "calibration": None}
    params = state.params if best["step"] == step else checkpointer.restore(best["step"], {"params": like["params"]})["params"]

    def score(name: str) -> Result:
        return evaluator.evaluate(params, state.frozen, items[name], records[name], shape, calibration=best["calibration"], poll=poll)

    trained = Trained(cfg, checkpoint, inputs, plan.steps_per_epoch, step, progress["best"], workdir, mesh.devices.ravel().tolist(), choices)
    results = finish(trained, scored, score, meter.results, writer, poll)
    calls.on_end(results)
    return results
