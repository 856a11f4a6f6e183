"""The rooms of the house: who imports whom, read off every file; and a service without torch."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

ROOMS = ("ecg", "training", "service", "loadtest")
FORBIDDEN = {
    "ecg": {"torch", "bentoml", "training", "service", "loadtest", "tests", "wfdb", "pandas"},
    "training": {"service", "bentoml", "loadtest", "tests"},
    "service": {"torch", "training", "loadtest", "tests"},
    "loadtest": {"training", "service", "torch", "tests"},
}
# Inside ecg/ imports run one way: a module takes from earlier tiers alone.
TIERS = (
    {"errors", "leads", "statements", "decision", "sampling", "burden"},
    {"limits"},
    {"record", "labels", "explain"},
    {"waveform", "shading"},
    {"signs", "interference", "faults", "piecewise"},
    {"scores"},
    {"electrodes"},
    {"quality"},
    {"prepare"},
    {"card"},
    {"store", "formats", "draw", "sampler"},
    {"generated", "generation", "strip"},
    {"convert"},
)
# What several formats are made of; a format itself is known to no other.
NO_FORMATS = {"source", "channels", "markup", "huffman", "xli", "sampled", "counts"}
NAMES_OF_NO_IDEA = {"utils", "util", "common", "core", "helpers", "helper", "misc"}


def modules(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


def imported(path: Path) -> Iterator[str]:
    """Every module that the file imports, anywhere in it, in full."""
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            name = ".".join(part for part in (base, node.module) if part)
            yield name
            yield from (f"{name}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_what_it_may(room: str) -> None:
    found = {
        (path.relative_to(ROOT).as_posix(), name)
        for path in modules(room)
        for name in imported(path)
        if name.split(".")[0] in FORBIDDEN[room]
    }
    assert not found


def test_there_is_something_in_the_rooms() -> None:
    assert all(modules(room) for room in ("ecg", "training", "service"))


def test_models_are_run_in_the_store_alone() -> None:
    """onnxruntime in ecg/ and service/; training checks its exports with it."""
    users = {
        path.relative_to(ROOT).as_posix()
        for room in ("ecg", "service")
        for path in modules(room)
        if any(name.split(".")[0] == "onnxruntime" for name in imported(path))
    }
    assert users == {"ecg/store.py"}


def test_torch_is_in_training_alone() -> None:
    users = {
        room
        for room in ROOMS
        for path in modules(room)
        if any(name.split(".")[0] == "torch" for name in imported(path))
    }
    assert users == {"training"}


def part_of_ecg(path: Path) -> str:
    return path.relative_to(ROOT / "ecg").with_suffix("").parts[0]


def test_every_part_of_ecg_has_its_tier() -> None:
    parts = {part_of_ecg(path) for path in modules("ecg")} - {"__init__"}
    assert parts <= set().union(*TIERS)


@pytest.mark.parametrize("path", modules("ecg"), ids=lambda p: p.relative_to(ROOT).as_posix())
def test_imports_inside_ecg_run_one_way(path: Path) -> None:
    part = part_of_ecg(path)
    earlier: set[str] = {part} if part == "formats" else set()
    for tier in TIERS:
        if part in tier:
            break
        earlier |= tier
    taken = {name.split(".")[1] for name in imported(path) if name.startswith("ecg.")}
    assert taken <= earlier


@pytest.mark.parametrize(
    "path",
    [p for p in modules("ecg/formats") if p.stem not in {"__init__", *NO_FORMATS}],
    ids=lambda p: p.stem,
)
def test_a_format_knows_no_other(path: Path) -> None:
    taken = {name for name in imported(path) if name.startswith("ecg.formats")}
    named = {name.split(".")[2] for name in taken if name.count(".") > 1}
    own_parts = {name for name in named if name.startswith(f"{path.stem.split('_')[0]}_")}
    assert named - own_parts <= NO_FORMATS


def test_every_name_names_an_idea() -> None:
    found = [
        path.relative_to(ROOT).as_posix()
        for room in (*ROOMS, "tests")
        for path in (ROOT / room).rglob("*")
        if path.stem.lower().strip("_") in NAMES_OF_NO_IDEA
        and (path.is_dir() or path.suffix == ".py")
    ]
    assert not found


SERVE_ONE = """
import json, sys
from starlette.testclient import TestClient
from service.edge import create_app
with TestClient(create_app()) as client:
    files = [("file", (name, open(f"tests/data/{name}", "rb").read()))
             for name in ("00009_lr.hea", "00009_lr.dat")]
    answer = client.post("/classify", files=files)
loaded = sorted({name.split(".")[0] for name in sys.modules})
print(json.dumps({"status": answer.status_code, "body": answer.json(), "loaded": loaded}))
"""


def test_a_service_that_has_answered_has_no_torch_in_it() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SERVE_ONE],
        cwd=ROOT,
        env={**os.environ, "BENTOML_DO_NOT_TRACK": "True", "ECG_DEVICE": "cpu", "ECG_AUDIT": "off"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    served = json.loads(done.stdout.splitlines()[-1])
    assert served["status"] == 200
    (result,) = served["body"]["results"]
    assert result["atrial_substrate"]["status"] in ("normal", "abnormal")
    assert "ecg" in served["loaded"]
    assert not {"torch", "training", "tensorboard", "accelerate"} & set(served["loaded"])
