"""python -m training.promote CANDIDATE --as NAME: a model is served only if it is no worse.

    python -m training.export --run runs/new --version 1.2.0 --store runs/staging --name prednet
    python -m training.promote runs/staging/prednet --as prednet

Both are judged on fold 9, with ONNX Runtime, as they are served. The candidate is refused where
- a figure's paired 95% interval lies wholly below the served model's by more than its margin;
- the AUROCs are lower on average, and none is higher with an interval above zero;
- it costs more than twice as much; it no longer answers a statement that is served; or, of a
  generator, its ECGs come near to training ECGs more often than strangers' do.
Where nothing is served by that name yet, its atrial AUROC must be above chance. There is no way
around it. The decision, either way, is appended to decisions.jsonl.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path

from ecg.card import GeneratorCard
from ecg.errors import StoreError
from ecg.store import CARD, Classifier, Generator, load_classifier, load_generator
from training.promotion import install
from training.promotion.classifiers import compare_classifiers
from training.promotion.generators import compare_generators
from training.promotion.verdict import Verdict, judge, table

MODELS = {"classification": load_classifier, "generation": load_generator}


def main() -> None:
    args = parser().parse_args()
    candidate = load(args.candidate)
    folder = args.store / args.as_name
    served = load(folder) if folder.exists() else None
    check_identity(candidate, served, args.as_name)
    kept = args.store / f"{args.as_name}@{served.card.version}" if served and args.keep else None
    if kept and kept.exists():
        raise SystemExit(f"{kept} is there already: remove it, or leave --keep out")
    if args.candidate.resolve().parent == args.store.resolve():
        raise SystemExit(f"{args.candidate} is served itself: export it into another store")
    verdict = compared(candidate, served, args)
    described = describe(candidate, served, args.as_name, verdict)
    record(args.report, args.as_name, described, verdict)
    print(table(verdict))
    if verdict.reasons:
        raise SystemExit(f"refused: {'; '.join(verdict.reasons)}")
    install.install(args.candidate, args.store, args.as_name, kept)
    print(f"{folder} is {candidate.card.version} now; a service serves it from its next start on")


def parser() -> argparse.ArgumentParser:
    described, _, more = (__doc__ or "").partition("\n\n")
    p = argparse.ArgumentParser(
        prog="python -m training.promote", description=described, epilog=more,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    p.add_argument("candidate", type=Path, help="folder of weights and card, as exported")
    p.add_argument("--as", dest="as_name", required=True, metavar="NAME", help="what it replaces")
    p.add_argument("--store", type=Path, default=Path("models_store"))
    p.add_argument("--data", type=Path, default=Path("runs/data"), help="prepared shards")
    p.add_argument(
        "--served-data", type=Path, help="the same records, where it was prepared otherwise"
    )
    p.add_argument("--keep", action="store_true", help="the replaced one stays, as NAME@VERSION")
    p.add_argument("--report", type=Path, default=Path("training/reports/promotions"))
    generators = p.add_argument_group("of a generator")
    generators.add_argument("--classifier", default="prednet", help="of the store: judges labels")
    generators.add_argument("--source", default="ptb-xl", help="the shard it learned from")
    generators.add_argument(
        "--evaluation", type=Path, nargs=2, metavar=("CANDIDATE", "SERVED"),
        help="evaluation.json of both: what classifiers learn from each (TSTR), too",
    )  # fmt: skip
    return p


def load(folder: Path) -> Classifier | Generator:
    """The model in the folder, on the CPU. Errors: SystemExit."""
    try:
        task = json.loads((folder / CARD).read_bytes()).get("task")
        if task not in MODELS:
            raise SystemExit(f"{folder}: the card's task must be {' or '.join(MODELS)}")
        return MODELS[task](folder, "cpu")
    except (OSError, ValueError, StoreError) as error:
        raise SystemExit(f"{folder} holds no model that could be served: {error}") from None


def check_identity(
    candidate: Classifier | Generator, served: Classifier | Generator | None, name: str
) -> None:
    """Errors: SystemExit where it cannot be told from the served one, or not be compared."""
    if not install.NAME.fullmatch(name):
        raise SystemExit(f"--as {name}: letters, digits, - and _ name a model")
    if served is None:
        return
    if type(candidate) is not type(served):
        raise SystemExit(
            f"{name} is served for {served.card.task}: give the candidate another name"
        )
    if install.hashes(candidate.card) == install.hashes(served.card):
        raise SystemExit(f"these are the weights that are served as {name} already")
    if candidate.card.version == served.card.version:
        raise SystemExit(
            f"{name} {served.card.version} is served, and answers are told apart by version: "
            "export the candidate under another"
        )


def compared(
    candidate: Classifier | Generator,
    served: Classifier | Generator | None,
    args: argparse.Namespace,
) -> Verdict:
    if isinstance(candidate, Classifier):
        assert served is None or isinstance(served, Classifier)
        return judge(*compare_classifiers(candidate, served, args.data, args.served_data))
    assert served is None or isinstance(served, Generator)
    judging = load(args.store / args.classifier)
    if not isinstance(judging, Classifier):
        raise SystemExit(f"--classifier {args.classifier} is none")
    path = args.data / f"{args.source}.npz"
    return judge(*compare_generators(candidate, served, judging, path, args.evaluation))


def describe(
    candidate: Classifier | Generator,
    served: Classifier | Generator | None,
    name: str,
    verdict: Verdict,
) -> dict[str, object]:
    def identity(model: Classifier | Generator) -> dict[str, str]:
        card = model.card
        more = {"decoder_sha256": card.decoder_sha256} if isinstance(card, GeneratorCard) else {}
        return {"version": card.version, "sha256": card.sha256, **more}

    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "name": name,
        "candidate": identity(candidate),
        "served": identity(served) if served else None,
        "accepted": not verdict.reasons,
        **asdict(verdict),
    }


def record(folder: Path, name: str, described: dict[str, object], verdict: Verdict) -> None:
    """The decision in the log, and its table beside."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "decisions.jsonl").open("a") as f:
        f.write(json.dumps(described) + "\n")
    candidate = described["candidate"]
    assert isinstance(candidate, dict)
    said = "Refused: " + "; ".join(verdict.reasons) if verdict.reasons else "Accepted."
    (folder / f"{name}-{candidate['version']}.md").write_text(
        f"# {name} {candidate['version']}\n\n{described['time']}, on fold 9. {said}\n\n"
        f"{table(verdict)}\n"
    )


if __name__ == "__main__":
    main()
