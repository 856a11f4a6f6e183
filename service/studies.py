"""Rating studies, made and read: python -m service.studies create --name Pilot --labels NORM,AFIB
--generated ldm:20 --real real.npz:20"""

from __future__ import annotations

import argparse
import json
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from ecg.errors import StoreError
from ecg.store import load_generator
from service.audit.trail import record_now
from service.database import connect, upgrade
from service.rating import export, material, report, report_page, studies
from service.rating.plan import Plan, parsed
from service.settings import Settings

HERE = "http://127.0.0.1:3000"


def main(arguments: Sequence[str] | None = None) -> int:
    """0: done; 1: there is no such study, it cannot be done, or the database failed; 2: asked
    wrongly."""
    asked = _parser().parse_args(arguments)
    try:
        return asked.do(asked)
    except SQLAlchemyError as error:
        kind = type(getattr(error, "orig", None) or error).__name__
        _say(f"the database of ECG_DATABASE_URL could not be used: {kind}")
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        _say(f"{where or 'the study'}: {first['msg'].removeprefix('Value error, ')}")
    except LookupError as error:
        _say(f"there is no study {error.args[0]}: see `python -m service.studies list`")
    except (ValueError, OSError, StoreError, material.Unsuitable) as error:
        _say(str(error))
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m service.studies",
        description="Studies are kept in the database that ECG_DATABASE_URL names; the service "
        "that uses it shows them to whoever has a personal link.",
    )
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    create = verbs.add_parser("create", help="a new study; its generated ECGs are made now")
    create.set_defaults(do=_create)
    create.add_argument("--name", required=True, help="what raters and the report call it")
    create.add_argument(
        "--labels", required=True, metavar="NORM:2,AFIB,SR+LVH",
        help="what ECGs are asked to show, each with its weight: statements, normal, abnormal",
    )  # fmt: skip
    create.add_argument(
        "--generated", default="", metavar="ldm:20", help="folders of the store, and how many each"
    )
    create.add_argument(
        "--real", metavar="SET.npz:20", help="a set of training.real_set, and how many of it"
    )
    create.add_argument("--mode", choices=("single", "pairs"), default="single")
    create.add_argument("--repeats", type=float, default=0.1, help="share that is shown twice")
    create.add_argument("--seed", type=int, help="drawn and printed where not given")

    invite = verbs.add_parser("invite", help="a rater's personal link, told once")
    invite.set_defaults(do=_invite)
    invite.add_argument("study", metavar="STUDY")
    invite.add_argument("--name", required=True, help="whose link it is, for the owner and rater")
    invite.add_argument(
        "--simulated", action="store_true", help="a program will answer: said wherever it counts"
    )
    invite.add_argument("--url", default=HERE, help=f"where raters find the service; {HERE}")

    listing = verbs.add_parser("list", help="every study, its raters and how far they are")
    listing.set_defaults(do=_list)

    revoke = verbs.add_parser("revoke", help="end a rater's link; what they said stays")
    revoke.set_defaults(do=_revoke)
    revoke.add_argument("rater", metavar="RATER")

    close = verbs.add_parser("close", help="take no more answers; now the truth may be told")
    close.set_defaults(do=_close)
    close.add_argument("study", metavar="STUDY")

    exporting = verbs.add_parser("export", help="all of a closed study as a folder of NPZ and CSV")
    exporting.set_defaults(do=_export)
    exporting.add_argument("study", metavar="STUDY")
    exporting.add_argument("--out", type=Path, required=True, metavar="FOLDER")

    reporting = verbs.add_parser("report", help="of a closed study, or of an export's folder")
    reporting.set_defaults(do=_report)
    reporting.add_argument("study", metavar="STUDY|FOLDER")
    reporting.add_argument(
        "--out", type=Path, required=True, metavar="FOLDER", help="of report.html, .json and .csv"
    )
    return parser


def _create(asked: argparse.Namespace) -> int:
    settings = Settings()
    path, _, n = (asked.real or "::0").rpartition(":")
    if asked.real and not (path and n.isdecimal()):
        raise ValueError("--real: say SET.npz:NUMBER")
    plan = Plan(
        name=asked.name,
        mode=asked.mode,
        labels=parsed(asked.labels),
        generated=parsed(asked.generated),
        real=int(n),
        repeats=asked.repeats,
        seed=secrets.randbelow(2**53) if asked.seed is None else asked.seed,
    )
    generators = {
        name: load_generator(settings.models_store / name, settings.device)
        for name in plan.generated
    }
    real = material.read_real(Path(path).read_bytes()) if plan.real else None
    done = 0

    def made(n: int) -> None:
        nonlocal done
        done += n
        if done == plan.n or done % 10 == 0:
            _say(f"{done} of {plan.n} ECGs")

    ecgs = material.gather(plan, generators, real, made)
    preparation = material.common_preparation(generators)
    engine = _engine(settings)
    record_now(engine, "study created", about=plan.name[:200])
    made_with = material.described(list(generators.values()), real, preparation)
    study = studies.create(engine, plan, ecgs, made_with)
    _say(f"study {study.id}, seed {study.seed}: {plan.n} ECGs; invite raters to it")
    print(study.id)
    return 0


def _invite(asked: argparse.Namespace) -> int:
    if not asked.name.isprintable() or not 1 <= len(asked.name) <= 200:
        raise ValueError("--name: must be 1 to 200 printable characters")
    engine = _engine()
    study = studies.find(engine, asked.study)
    record_now(engine, "rater invited", about=f"study:{study.id}")
    rater, token = studies.invite(engine, study, asked.name, asked.simulated)
    _say(f"rater {rater.id}; the link is shown only now, and whoever has it answers as that rater:")
    print(f"{asked.url.rstrip('/')}/rate#{token}")
    return 0


def _list(asked: argparse.Namespace) -> int:
    engine = _engine()
    for study in studies.all_of(engine):
        state = f"closed {study.closed:%Y-%m-%d %H:%M}" if study.closed else "open"
        kinds = f"{study.plan['real']} real"
        for one, n in zip(study.plan["generators"], study.plan["generated"].values(), strict=True):
            kinds += f", {n} {one['source']}"
        print(f"{study.id}  {state}  {study.mode}  {kinds}  {study.name}")
        progress = studies.progress_of_all(engine, study.id)
        for rater in studies.raters_of(engine, study.id):
            found = progress[rater.id]
            more = "".join(
                f", {word}"
                for word, true in (("simulated", rater.simulated), ("link ended", rater.revoked))
                if true
            )
            print(f"    {rater.id}  {len(found.answered)} of {found.total}  {rater.name}{more}")
    return 0


def _revoke(asked: argparse.Namespace) -> int:
    engine = _engine()
    record_now(engine, "rater revoked", about=f"rater:{asked.rater[:40]}")
    if not studies.revoke(engine, asked.rater):
        raise ValueError(f"there is no link of a rater {asked.rater} to end")
    _say(f"the link of rater {asked.rater} is ended")
    return 0


def _close(asked: argparse.Namespace) -> int:
    engine = _engine()
    study = studies.find(engine, asked.study)
    record_now(engine, "study closed", about=f"study:{study.id}")
    if not studies.close(engine, study.id):
        raise ValueError(f"study {study.id} is closed already")
    _say(f"study {study.id} is closed: no answer is taken any more")
    return 0


def _export(asked: argparse.Namespace) -> int:
    found = _exported(asked.study)
    export.write(found, asked.out)
    _say(f"{len(found.ecgs)} ECGs and {len(found.answers)} revisions in {asked.out}")
    return 0


def _report(asked: argparse.Namespace) -> int:
    path = Path(asked.study)
    found = report.figures(export.read(path) if path.exists() else _exported(asked.study))
    asked.out.mkdir(parents=True, exist_ok=True)
    (asked.out / "report.json").write_text(in_json(found))
    (asked.out / "report.csv").write_text(report.as_csv(found))
    (asked.out / "report.html").write_text(report_page.page(found))
    _say(f"{asked.out}/report.html, .json and .csv; answered by {found['who']}")
    return 0


def in_json(found: dict[str, Any]) -> str:
    return json.dumps(found, indent=1, sort_keys=True) + "\n"


def _exported(study: str) -> export.Export:
    """Errors: LookupError, ValueError where it is open."""
    engine = _engine()
    found = studies.find(engine, study)
    if found.closed is None:
        raise ValueError(f"study {study} is still open: close it, and then its ECGs are told")
    return export.of(engine, found)


def _engine(settings: Settings | None = None) -> Engine:
    engine = connect((settings or Settings()).database_url)
    upgrade(engine)
    return engine


def _say(text: str) -> None:
    print(text, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
