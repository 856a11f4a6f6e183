"""A training shared by several processes, on one machine or many: what they must do together.

Alone, each of these does nothing. The first process reads and writes the run; the others need no
file of it, so the machines need no file system in common.
"""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import numpy as np
import torch
import torch.distributed as dist
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object, parse_flag_from_env
from torch import Tensor

from training.shards import Shard

T = TypeVar("T")


def on_cpu() -> bool:
    """Whether this process must compute on its CPU: Accelerate connects processes without a GPU
    only where it is told so."""
    shared = int(os.environ.get("WORLD_SIZE", 1)) > 1
    return parse_flag_from_env("ACCELERATE_USE_CPU") or (
        shared and not torch.accelerator.is_available()
    )


def state() -> PartialState:
    """Accelerate's: how many processes there are, and which of them this is."""
    return PartialState(cpu=on_cpu())


def is_first() -> bool:
    """Whether this process is the one that writes."""
    return state().is_main_process


def say(text: str) -> None:
    """Once, whatever the number of processes."""
    if is_first():
        print(text, flush=True)


def first_says(value: T) -> T:
    """The first process's value, in all of them."""
    if state().num_processes == 1:
        return value
    told = [value]
    broadcast_object_list(told)
    return told[0]


def mean_over_processes(value: Tensor) -> Tensor:
    """Of a number that each has its own of; not differentiable."""
    if not (dist.is_available() and dist.is_initialized()):
        return value
    value = value.detach().clone()
    dist.all_reduce(value)
    return value / dist.get_world_size()


def share_of(batch_size: int) -> int:
    """Each process's share. Errors: SystemExit where there is none of whole examples."""
    processes = state().num_processes
    if batch_size % processes:
        raise SystemExit(
            f"loop.batch_size {batch_size} cannot be shared by {processes} processes: --set "
            f"loop.batch_size={batch_size - batch_size % processes + processes}"
        )
    return batch_size // processes


def seed_of(seed: int, step: int) -> int:
    """Of this process's random numbers in a step, so that a resumed run draws what an
    uninterrupted one would have, and no process what another does."""
    sequence = np.random.SeedSequence((seed, step, state().process_index))
    return int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))


def agree(config: str, parts: Iterable[Shard], weights: Iterable[Tensor] = ()) -> None:
    """That all processes were given the same. Errors: SystemExit, in each of them."""
    if state().num_processes == 1:
        return
    data = hashlib.sha256()
    for part in parts:
        for name, value in vars(part).items():
            data.update(name.encode())
            data.update(value.tobytes() if isinstance(value, np.ndarray) else repr(value).encode())
    for tensor in weights:
        data.update(tensor.detach().cpu().numpy().tobytes())
    given = {"configuration": config, "data": data.hexdigest()}
    with none_lost():
        told = gather_object([(platform.node(), given)])
    (first, expected), *others = told
    for machine, other in others:
        if differing := [name for name, value in other.items() if value != expected[name]]:
            _part()
            raise SystemExit(
                f"the {' and '.join(differing)} on {machine} is not what the first process has on "
                f"{first}: give every process the same"
            )


def _part() -> None:
    """All of them together: where one ends, those still connected to it may be aborted."""
    with none_lost():
        dist.barrier()
    dist.destroy_process_group()


@contextmanager
def none_lost() -> Iterator[None]:
    """Errors: SystemExit where another process is gone: this one alone cannot go on."""
    try:
        yield
    except RuntimeError as error:
        if state().num_processes == 1 or not _of_the_connection(error):
            raise
        raise SystemExit(
            f"process {state().process_index} on {platform.node()} stops: another process "
            "of this training is gone, and its own output says why. Start all of them again: the "
            "run goes on from its last checkpoint"
        ) from error


def _of_the_connection(error: RuntimeError) -> bool:
    said = str(error).lower()
    return isinstance(error, dist.DistBackendError | dist.DistNetworkError) or any(
        word in said for word in ("gloo", "nccl", "connection closed by peer", "connection reset")
    )
