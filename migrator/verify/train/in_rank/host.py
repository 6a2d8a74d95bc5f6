"""Runs torchtitan's trainer, unmodified, inside one rank, and records what it does.

    torchrun ... host.py TREE TRACE_DIR OPTIONS -- <arguments of torchtitan.train>

TREE is the folder that holds the `torchtitan` package, TRACE_DIR receives
`rank<N>.jsonl` (one event a line, see `trace.py`) and `rank<N>.log` (all that
the rank prints). OPTIONS is a JSON object:

    steps        the number of the last step
    done         steps that the checkpoint has done that the run resumes
    halfway      the step behind which a checkpoint is written, or null
    device       "cpu" (prepared here) or "cuda" (the process is left as it is)
    nudged       change the rounding of the gradients, to measure what that makes
    planted      null, or parameter, step, error: its gradient in that step is made larger by so much of it
    collectives  count the collectives of the second step, and watch the modules of the first
    weights      the folder that receives the final parameters
    overrides    model arguments to set before the trainer builds its model
    trainer      module:Class that trains in the place of torchtitan's Trainer, or ""

This folder is the only part of titan-migrate that imports torch, and it imports
nothing else of titan-migrate: it has to run in whatever environment a fork
trains in. Nothing is parsed from logs: figures are taken, at full precision,
where whoever trains comes by once a step: at the clipping of gradients (torchtitan's,
torch's or none), at the optimizers, and at `MetricsProcessor.log`.
"""

from __future__ import annotations

import ast
import functools
import importlib
import json
import os
import runpy
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parent.parent)
from in_rank.cpu import fit_model, prepare_cpu  # noqa: E402
from in_rank.measure import peak_memory, watch_autocast  # noqa: E402
from in_rank.probe import Probe, Recorder  # noqa: E402

leave = os._exit


def end_with(*process_ids: int) -> None:
    """Ends this rank once torchrun or titan-migrate is gone.

    torchrun gives every rank a session of its own, so a signal to its process
    group does not reach the ranks if torchrun itself was killed.
    """

    def watch() -> None:
        while True:
            time.sleep(0.5)
            for process_id in process_ids:
                try:
                    os.kill(process_id, 0)
                except ProcessLookupError:
                    leave(1)
                except PermissionError:
                    pass
            if os.getppid() != process_ids[0]:
                leave(1)

    threading.Thread(target=watch, daemon=True).start()


def main(argv: list[str]) -> None:
    tree, trace_dir, given, separator, *trainer_arguments = argv
    if separator != "--":
        raise SystemExit(f"usage: {__doc__.splitlines()[2].strip()}")
    options = json.loads(given)
    rank = int(os.environ["RANK"])
    folder = Path(trace_dir)

    log = os.open(
        folder / f"rank{rank}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644
    )
    os.dup2(log, 1)
    os.dup2(log, 2)
    end_with(os.getppid(), int(os.environ.get("TITAN_MIGRATE_PID", os.getppid())))

    # Our own folder goes from the path, for the tree under test.
    sys.path[0] = tree
    # torchtitan's configuration reads the arguments when it is imported.
    sys.argv = ["torchtitan.train", *trainer_arguments]
    recorder = Recorder(folder, rank)
    probe = Probe(recorder, options)
    try:
        import torch

        recorder.write(
            "start",
            rank=rank,
            pid=os.getpid(),
            python=sys.version.split()[0],
            torch=torch.__version__,
        )
        if options["device"] == "cpu":
            prepare_cpu()
        watch_autocast()
        import torchtitan

        found = Path(torchtitan.__file__).resolve().parent.parent
        if found != Path(tree).resolve():
            raise RuntimeError(
                f"torchtitan was imported from {found}, not from the tree under test, {tree}"
            )
        change_model(options["overrides"], options["device"])
        skip_the_closing_pause()
        probe.install()
        close_before_it_ends(probe)
        start(options["trainer"])
    except BaseException as error:
        if isinstance(error, SystemExit) and not error.code:
            end(probe, options["device"])
            return
        told = cause(error)
        recorder.write(
            "error",
            type=type(told).__name__,
            message=str(told),
            traceback=traceback.format_exc(),
        )
        raise
    end(probe, options["device"])


def start(trainer: str) -> None:
    """Starts torchtitan.train as ``python -m`` does, with another Trainer where one is named."""
    if not trainer:
        runpy.run_module("torchtitan.train", run_name="__main__", alter_sys=True)
        return
    train = importlib.import_module("torchtitan.train")
    place = str(train.__file__)
    started = [
        node
        for node in ast.parse(Path(place).read_bytes()).body
        if isinstance(node, ast.If) and "__main__" in ast.dump(node.test)
    ]
    module, _, name = trainer.partition(":")
    derived = getattr(importlib.import_module(module), name)
    names = {**vars(train), "Trainer": derived, "__name__": "__main__"}
    exec(compile(ast.Module([*started], []), place, "exec"), names)


def change_model(overrides: dict[str, object], device: str) -> None:
    """Sets arguments of the model, and what it needs on a CPU, before the trainer builds it."""
    from torchtitan.protocols import train_spec

    look_up = train_spec.get_train_spec

    def look_up_and_change(name: str) -> Any:
        spec = look_up(name)
        flavors = getattr(spec, "model_args", None) or spec.config
        for flavor in flavors.values():
            for key, value in overrides.items():
                setattr(flavor, key, value)
        if device == "cpu":
            fit_model(spec)
        return spec

    train_spec.get_train_spec = look_up_and_change


def skip_the_closing_pause() -> None:
    """torchtitan's trainer ends with two seconds of sleep for logs of other ranks, which nobody waits for here."""
    sleep = time.sleep

    def sleep_elsewhere(seconds: float) -> None:
        caller = sys._getframe(1).f_code
        if caller.co_name != "train" or not caller.co_filename.endswith("train.py"):
            sleep(seconds)

    time.sleep = sleep_elsewhere  # type: ignore[assignment]  # patched


def cause(error: BaseException) -> BaseException:
    """What a checkpoint failed with, which torch only names among the failures of each rank; else the error itself."""
    failures = getattr(error, "failures", None)
    first = next(iter(failures.values()), None) if isinstance(failures, dict) else None
    return first[0] if isinstance(first, tuple) else error


def close_before_it_ends(probe: Probe) -> None:
    """Lets what is left be written while the ranks still can talk, however the trainer ends."""
    import torch

    destroy = torch.distributed.destroy_process_group

    @functools.wraps(destroy)
    def close_and_destroy(*args: Any, **kwargs: Any) -> None:
        probe.close()
        destroy(*args, **kwargs)

    def leave_by_the_door(status: int) -> None:
        if status or threading.current_thread() is not threading.main_thread():
            leave(status)
        raise SystemExit

    torch.distributed.destroy_process_group = close_and_destroy
    os._exit = leave_by_the_door  # type: ignore[assignment]  # patched


def end(probe: Probe, device: str) -> None:
    """Notes that the training went well."""
    os._exit = leave
    probe.close()
    probe.recorder.write("end", peak_bytes=peak_memory(device))
    sys.stdout.flush()
    sys.stderr.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
    # gloo's threads sometimes abort the interpreter while it shuts down
    # ("terminate called without an active exception"), after everything is done.
    os._exit(0)
