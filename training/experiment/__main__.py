"""python -m training.experiment: classifiers, generators, and what the ones learn from the others.

    python -m training.experiment --preset cpu

Interrupted, the same command goes on; what is made is not made again. With --ray the machines of a
Ray cluster make the cells.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import asdict
from pathlib import Path

from training import cluster
from training import config as configs
from training.experiment.bench import Bench
from training.experiment.cell import Cell, with_needs
from training.experiment.config import ExperimentConfig
from training.experiment.grid import make, maker
from training.experiment.report import write_report
from training.experiment.studies import STUDIES, asked, missing
from training.shards import fingerprint, load


def main() -> None:
    args = parser().parse_args()
    config = configs.load(ExperimentConfig, "experiment", args.preset, args.overrides)
    if args.dry_run:
        print(configs.dump(config))
        return
    studies = possible(config, args.only)
    shard = args.data / f"{config.training.source}.npz"
    if not shard.exists():
        raise SystemExit(f"no {shard}: run python -m training.prepare first")
    found: dict[str, object] = {
        "preset": args.preset,
        "config": asdict(config),
        "data": {"source": config.training.source, "sha256": fingerprint(load(shard))},
        "machine": f"{cluster.machine('cpu')}, {os.cpu_count()} cores",
        "made": time.strftime("%Y-%m-%d"),
    }
    folder = args.work / str(found["data"]["sha256"])[:8]  # type: ignore[index]
    with maker(folder, args.data, args.workers, args.ray) as made:

        def make_all(cells: list[Cell]) -> None:
            left = [one for one in with_needs(cells) if not one.is_done(folder)]
            print(f"{len(left)} of {len(with_needs(cells))} cells to make", flush=True)
            make(cells, folder, made)

        bench = Bench(config, args.data, folder, make_all)
        for name in studies:
            print(f"{name}:", flush=True)
            args.out.mkdir(parents=True, exist_ok=True)
            answer = {**found, **STUDIES[name](bench)}
            (args.out / f"{name}.json").write_text(json.dumps(answer, indent=1) + "\n")
            write_report(args.out)
    print(args.out / "README.md")


def possible(config: ExperimentConfig, only: list[str] | None) -> list[str]:
    """Those asked for, or those of the preset that have all they need; what is left out is said.

    Errors: SystemExit where one that is asked for by name cannot be answered.
    """
    studies = []
    for study in only or asked(config):
        if lacking := missing(config, study):
            if only:
                raise SystemExit(f"{study}: {lacking}")
            print(f"{study} is left out: {lacking}", flush=True)
        else:
            studies.append(study)
    return studies


def parser() -> argparse.ArgumentParser:
    described, _, example = (__doc__ or "").partition("\n\n")
    p = argparse.ArgumentParser(
        prog="python -m training.experiment", description=described.partition(": ")[2],
        epilog=example, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    configs.add_arguments(p, "experiment")
    p.add_argument("--only", nargs="+", choices=STUDIES, help="studies; all of the preset's")
    p.add_argument("--data", type=Path, default=Path("runs/data"), help="prepared shards")
    p.add_argument(
        "--work", type=Path, default=Path("runs/experiment"), help="where cells are kept"
    )
    p.add_argument("--out", type=Path, default=Path("training/reports/experiment"))
    p.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1,
        help="cells at a time, a process each; 0: this one makes them",
    )  # fmt: skip
    p.add_argument(
        "--ray", metavar="ADDRESS",
        help="of the cluster whose machines make the cells: HOST:PORT of its head, auto or local",
    )  # fmt: skip
    return p


if __name__ == "__main__":
    main()
