"""python -m loadtest.holter: a day's recording posted whole: how long it takes, and what memory.

Records of 24 h at 250 Hz, int16, NPZ as `numpy.savez` writes it, of 1, 3 and 12 leads (500 MB: the
body limit is raised for them). They are the page's examples from PTB-XL one after the other, with
stretches of atrial fibrillation at known times: of the length of a Holter recording, and no more
like one than that. Memory is what the service's processes hold, ten times a second, and at most:
by the kernel's own account, which misses nothing between.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx
import numpy as np

from ecg.formats import File, Hints, read
from ecg.leads import LEADS
from ecg.waveform import resample
from loadtest import bodies
from loadtest.endurance import repeated
from loadtest.run import SERVICE, machine
from loadtest.server import ROOT, Served, serving

FS, PIECE_S = 250.0, 10.0
LEAD_SETS = (("II",), ("I", "II", "V1"), LEADS)
AF_SHARES = ((0.05, 0.0521), (0.2, 0.25), (0.5, 0.503), (0.61, 0.62), (0.9, 0.93))  # of the record
EVERY_S, AFTER_S = 0.1, 4.0
MIB = 2**20


@dataclass(frozen=True)
class Measured:
    """Of one record; mib: of the service, before, at most meanwhile, and a while after."""

    leads: int
    hours: float
    body_mib: float
    seconds: float
    times_real_time: float
    mib_before: float
    mib_peak: float
    mib_after: float
    mib_beyond_body: float
    af_share: float
    af_share_answered: float
    episodes: int
    episodes_answered: int
    memory: list[tuple[float, float]]  # seconds since it was posted, MiB


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.holter",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--hours", type=float, default=24.0)
    parser.add_argument("--bentoml", default=SERVICE[0], help="the command that serves")
    parser.add_argument("--out", type=Path, default=ROOT / "loadtest" / "results")
    args = parser.parse_args()
    found = []
    raised = {"ECG_MAX_BODY_MIB": "512"}
    with tempfile.TemporaryDirectory() as folder:
        body = Path(folder) / "day.npz"
        with serving((args.bentoml, *SERVICE[1:]), environment=raised) as service:
            for leads in ((LEAD_SETS[0]), *LEAD_SETS):  # the first warms up
                known = write_record(body, leads, args.hours)
                found.append(measure(service, body, leads, args.hours, known))
                print({k: v for k, v in asdict(found[-1]).items() if k != "memory"}, flush=True)
    found = found[1:]
    said = {
        "made": time.strftime("%Y-%m-%d"),
        "machine": machine(),
        "records": [asdict(m) for m in found],
    }
    (args.out / "holter.json").write_text(json.dumps(said) + "\n")
    plot(found, args.out / "holter.png")


def af_pieces(hours: float) -> np.ndarray:
    """Which of the record's pieces are atrial fibrillation, bool."""
    n = round(hours * 3600 / PIECE_S)
    af = np.zeros(n, dtype=bool)
    for begin, end in AF_SHARES:
        af[round(begin * n) : round(end * n)] = True
    return af


def write_record(path: Path, leads: Sequence[str], hours: float) -> np.ndarray:
    """The NPZ, and which of its pieces are atrial fibrillation. A lead at a time: the whole would
    take more memory here than the service is allowed to."""
    counts = {}
    for name in ("normal-1.csv", "normal-2.csv", "afib.csv"):
        file = File((bodies.EXAMPLES / name).read_bytes(), name)
        (record,) = read([file], Hints("100", None, "mV"))
        counts[name] = np.rint(1000 * resample(record.sig, record.fs, FS)).astype("<i2")
    af = af_pieces(hours)
    header = {"descr": "<i2", "fortran_order": False,
              "shape": (len(leads), len(af) * round(FS * PIECE_S))}  # fmt: skip
    said = {"fs": np.array(FS), "leads": np.array(leads), "units": np.array("uV")}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for name, value in said.items():
            with archive.open(f"{name}.npy", "w") as member:
                np.lib.format.write_array(member, value)
        with archive.open("sig.npy", "w", force_zip64=True) as member:
            np.lib.format.write_array_header_1_0(member, header)
            for lead in leads:
                row = LEADS.index(lead)
                piece = {name: sig[row].tobytes() for name, sig in counts.items()}
                for i, fibrillates in enumerate(af):
                    name = "afib.csv" if fibrillates else f"normal-{1 + i // 50 % 2}.csv"
                    member.write(piece[name])
    return af


def measure(
    service: Served, body: Path, leads: Sequence[str], hours: float, known: np.ndarray
) -> Measured:
    workers = [process.pid for process in service.workers()]
    for pid in workers:
        Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak begins anew
    before = held(workers)
    memory: list[tuple[float, float]] = []
    began = time.monotonic()
    with repeated(lambda: memory.append((time.monotonic() - began, held(workers))), EVERY_S):
        with body.open("rb") as content:
            answer = httpx.post(f"{service.url}/classify", content=content, timeout=3600)
        seconds = time.monotonic() - began
        time.sleep(AFTER_S)
    (result,) = answer.raise_for_status().json()["results"]
    burden = result["af_burden"]
    body_mib, peak = body.stat().st_size / MIB, held(workers, "VmHWM")
    return Measured(
        leads=len(leads),
        hours=hours,
        body_mib=round(body_mib, 1),
        seconds=round(seconds, 2),
        times_real_time=round(3600 * hours / seconds),
        mib_before=round(before, 1),
        mib_peak=round(peak, 1),
        mib_after=round(memory[-1][1], 1),
        mib_beyond_body=round(peak - before - body_mib, 1),
        af_share=round(float(known.mean()), 4),
        af_share_answered=burden["share"],
        episodes=int((np.diff(known.astype(int)) == 1).sum()),
        episodes_answered=len(burden["episodes"]),
        memory=[(round(s, 2), round(mib, 1)) for s, mib in memory[:: 1 + len(memory) // 200]],
    )


def held(pids: Sequence[int], what: str = "VmRSS") -> float:
    """MiB of all of them; what several share counts for each, so only differences mean much."""
    kib = 0
    for pid in pids:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        kib += sum(int(line.split()[1]) for line in lines if line.startswith(what))
    return kib / 1024


def plot(found: Sequence[Measured], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 3.6), layout="constrained")
    for i, m in enumerate(found):
        s, mib = np.array(m.memory).T
        name = f"{m.leads} lead{'s' if m.leads > 1 else ''}, {m.seconds:.0f} s"
        name += f" ({m.times_real_time:,} x real time)"
        axes.plot(s, mib - m.mib_before, color=f"C{i}", label=name)
        axes.axhline(m.body_mib, color=f"C{i}", linestyle=":", linewidth=1)
        axes.axvline(m.seconds, color=f"C{i}", linewidth=0.5)
    axes.set(xlabel="seconds since the record was posted", ylabel="MiB above the idle service",
             title=f"{found[0].hours:g} h at 250 Hz (dotted: the body)")  # fmt: skip
    axes.legend(frameon=False)
    figure.savefig(path, dpi=90)


if __name__ == "__main__":
    main()
