"""What a worker costs, and the figures of those that died.

The client library keeps each process's figures in files of its own. It has no process metrics
where several share a port, and it shows a killed process's gauges for ever; so each worker looks
at itself every few seconds, and forgets the gauges of what no longer lives beside it. Counters and
histograms of the dead stay: they count what was done.
"""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path

import psutil
from prometheus_client.multiprocess import mark_process_dead

from service import metrics

EVERY_S = 5.0
_LIVE = re.compile(r"gauge_live[a-z]*_(\d+)\.db")


async def watch() -> None:
    """Until cancelled."""
    process = psutil.Process()
    loop = asyncio.get_running_loop()
    metrics.WORKER_STARTS.inc()
    cpu_s = 0.0
    while True:
        cpu_s = observe(process, cpu_s)
        if folder := os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
            forget_dead(Path(folder), process.ppid())
        due = loop.time() + EVERY_S
        await asyncio.sleep(EVERY_S)
        metrics.LOOP_DELAY_SECONDS.observe(max(0.0, loop.time() - due))


def observe(process: psutil.Process, cpu_s: float) -> float:
    """Its figures into the metrics; `cpu_s` is the CPU time counted before, and now is returned."""
    with process.oneshot():
        times = process.cpu_times()
        metrics.RESIDENT_BYTES.set(process.memory_info().rss)
    metrics.OPEN_FILES.set(process.num_fds())
    now_s = times.user + times.system
    metrics.CPU_SECONDS.inc(max(0.0, now_s - cpu_s))
    return now_s


def forget_dead(folder: Path, parent: int) -> None:
    """Remove the live gauges of processes that are no longer `parent`'s children."""
    for pid in {int(m[1]) for f in folder.iterdir() if (m := _LIVE.fullmatch(f.name))}:
        if not _child_lives(pid, parent):
            try:
                mark_process_dead(pid, str(folder))
            except FileNotFoundError:
                pass  # another worker was first


def _child_lives(pid: int, parent: int) -> bool:
    try:
        process = psutil.Process(pid)
        return process.ppid() == parent and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
