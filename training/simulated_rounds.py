"""python -m training.simulated_rounds: generate, rate, refine, with raters that are programs.

    python -m training.simulated_rounds --run runs/wide --rounds 3 --ratings 500 --defect QRS

It shows what the loop does with raters who see what a critic by rules sees, and err. No person
rates anything here, and nothing that comes of it is a cardiologist's opinion. A second critic, by
other measures, has no part in it and is asked before and after.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from training import config as configs
from training.judging.embeddings import kept
from training.metrics import bootstrap
from training.refine import simulated
from training.refine.__main__ import add_places, begin, bench_of
from training.refine.critic import KINDS, Critic, fit
from training.refine.look import Bench, Look, labels_told
from training.refine.page import write_page
from training.refine.raters import DEFECTS, panel
from training.refine.step import RefineConfig, refine
from training.refine.study import read_all
from training.refine.versions import Versions
from training.shards import fingerprint

N_RATERS = 3


def main() -> None:
    args = parser().parse_args()
    config = configs.load(RefineConfig, "refine", args.preset, args.overrides)
    if args.dry_run:
        print(configs.dump(config))
        return
    versions = Versions(args.out)
    bench = bench_of(args.data, args.classifier, config)
    begin(versions, args.run)
    critics = {name: critic_of(name, bench, args.data.parent / "critics") for name in KINDS}
    raters = panel(N_RATERS, args.error, args.seed)
    exports: list[Path] = []
    found: dict[str, Any] = {
        "raters": f"{N_RATERS} simulated raters, no person, {args.error:.0%} errors",
        "critic": args.critic, "ratings": args.ratings, "defect": args.defect,
        "guarded": args.guarded, "rerated": args.rerated,
        "real": of_real(bench, critics, args.defect),
        "versions": [],
    }  # fmt: skip

    def say(number: int) -> None:
        found["current"] = versions.current
        found["versions"].append(seen(versions.look(number, bench), critics, number, args.defect))
        found["from_first"] = changes(found["versions"], bench, versions.current)
        (args.out / "rounds.json").write_text(json.dumps(stripped(found), indent=1) + "\n")
        write_page(versions)

    say(0)
    for turn in range(args.rounds):
        if args.rerated or not exports:
            exports.append(rated(versions, bench, critics[args.critic], raters, args, turn))
        step = refine(
            versions, lambda number: versions.look(number, bench), read_all(exports), config,
            args.guarded,
        )  # fmt: skip
        say(step.version)
        became = "accepted" if step.accepted else f"refused: {'; '.join(step.reasons)}"
        print(f"round {turn + 1}: version {step.version} {became}", flush=True)
    print(args.out / "README.md")


def critic_of(name: str, bench: Bench, folder: Path) -> Critic:
    """Fitted once for these training records, and kept in the folder: to measure them takes
    minutes."""
    rules = hashlib.sha256(repr(KINDS[name][2]).encode()).hexdigest()[:8]
    kept_as = f"{name}-{rules}-{fingerprint(bench.training)[:12]}"
    limits = kept(folder, kept_as, lambda: np.array(fit(name, bench.training).limits))
    return Critic(name, tuple(limits.tolist()))


def rated(
    versions: Versions, bench: Bench, critic: Critic, raters: tuple, args: argparse.Namespace,
    turn: int,
) -> Path:  # fmt: skip
    """An export of simulated ratings of the current version's pool."""
    look = versions.look(versions.current, bench)
    card = look.generator.card
    labels = labels_told(bench.asked, card.statements)
    n = args.ratings if args.rerated is False else args.ratings // args.rounds
    arrays = simulated.rate(look.pool, labels, card, critic, raters, n, args.seed + turn)
    return simulated.write(arrays, args.out / f"simulated-ratings-{turn + 1}")


def seen(look: Look, critics: dict[str, Critic], number: int, defect: str | None) -> dict[str, Any]:
    """What each critic makes of a version's ECGs with labels that no update saw."""
    out: dict[str, Any] = {"version": number}
    for name, critic in critics.items():
        out[name] = verdict(critic, look.held, defect)
    return out


def verdict(critic: Critic, part: Any, defect: str | None) -> dict[str, Any]:
    """bool [ecg]: passes, and has the defect where the critic has a rule of it."""
    broken = critic.broken(part)
    of = [rule.defect == defect for rule in critic.rules]
    out = {"passes": ~broken.any(axis=1)}
    return out | ({"defect": broken[:, of].any(axis=1)} if any(of) else {})


def of_real(bench: Bench, critics: dict[str, Critic], defect: str | None) -> dict[str, Any]:
    """The same of the real ECGs of fold 9."""
    return {
        name: {
            k: share(v, bench.held.patient) for k, v in verdict(critic, bench.held, defect).items()
        }
        for name, critic in critics.items()
    }


def changes(every: list[dict[str, Any]], bench: Bench, current: int) -> dict[str, Any]:
    """The current version's shares less the first one's, paired by labels."""
    first, last = every[0], next(v for v in every if v["version"] == current)
    return {
        name: {
            k: share(last[name][k].astype(float) - first[name][k], bench.held.patient)
            for k in first[name]
        }
        for name in KINDS
    }


def stripped(found: dict[str, Any]) -> dict[str, Any]:
    """With shares in the place of each ECG's verdicts."""
    versions = [
        {
            k: {name: float(values.mean()) for name, values in v.items()} if k in KINDS else v
            for k, v in one.items()
        }
        for one in found["versions"]
    ]
    return {**found, "versions": versions}


def share(values: np.ndarray, patient: np.ndarray) -> dict[str, Any]:
    interval = bootstrap(lambda rows: float(values[rows].mean()), patient)
    return {"value": float(values.mean()), "interval": interval, "n": len(values)}


def parser() -> argparse.ArgumentParser:
    described, _, more = (__doc__ or "").partition("\n\n")
    p = argparse.ArgumentParser(
        prog="python -m training.simulated_rounds", description=described.partition(": ")[2],
        epilog=more, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    configs.add_arguments(p, "refine")
    add_places(p)
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--ratings", type=int, default=500, help="in all rounds together")
    p.add_argument("--error", type=float, default=0.15, help="of each rater")
    p.add_argument("--critic", choices=KINDS, default="beats", help="that the raters see by")
    p.add_argument("--defect", choices=DEFECTS, help="whose share is followed")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument(
        "--without-guards", dest="guarded", action="store_false",
        help="take every version as it comes, to see what the guards are for",
    )  # fmt: skip
    p.add_argument(
        "--rate-once", dest="rerated", action="store_false",
        help="all ratings in the first round, none of what came of them",
    )  # fmt: skip
    return p


if __name__ == "__main__":
    main()
