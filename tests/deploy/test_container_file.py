"""The container file as each Bento has it: what is installed, who runs it, what it writes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT

BENTOFILES = {"cpu": "bentofile.cpu.yaml", "gpu": "bentofile.yaml"}
Step = tuple[str, str]  # instruction, arguments


@pytest.fixture(scope="module", params=BENTOFILES)
def device(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def bento(device: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the Bento that BentoML builds, the context of the image's build."""
    home = tmp_path_factory.mktemp(device)
    subprocess.run(
        [sys.executable, "-m", "bentoml", "build", "-f", BENTOFILES[device]],
        cwd=ROOT,
        env={**os.environ, "BENTOML_HOME": str(home), "BENTOML_DO_NOT_TRACK": "True"},
        check=True,
        capture_output=True,
    )
    (folder,) = home.glob("bentos/*/*/")
    return folder


@pytest.fixture(scope="module")
def stages(bento: Path) -> list[list[Step]]:
    """The steps of each stage, comments left out and continued lines joined."""
    text = (bento / "env" / "docker" / "Dockerfile").read_text()
    lines = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    stages: list[list[Step]] = [[]]  # before the first FROM
    for line in lines.replace("\\\n", " ").splitlines():
        if line.strip():
            instruction, _, arguments = line.partition(" ")
            if instruction == "FROM":
                stages.append([])
            stages[-1].append((instruction, " ".join(arguments.split())))
    return stages


def every(stages: list[list[Step]], *instructions: str) -> list[str]:
    return [rest for stage in stages for name, rest in stage if name in instructions]


def environment(stage: list[Step]) -> dict[str, str]:
    return dict(rest.split("=", 1) for name, rest in stage if name == "ENV")


def test_nothing_is_left_to_fill_in(stages: list[list[Step]]) -> None:
    known = "ARG FROM RUN COPY ENV LABEL WORKDIR VOLUME EXPOSE USER STOPSIGNAL HEALTHCHECK"
    for stage in stages:
        for instruction, rest in stage:
            assert instruction in [*known.split(), "ENTRYPOINT"]
            assert "{%" not in rest and "{{" not in rest


def test_the_base_is_one_release_and_every_stage_begins_with_it(stages: list[list[Step]]) -> None:
    (base,) = (rest for name, rest in stages[0] if name == "ARG")
    assert re.fullmatch(r"BASE=docker\.io/library/debian:12\.\d+-slim", base)
    begins = [stage[0][1] for stage in stages[1:]]
    assert begins == ["${BASE} AS python", "python AS packages", "python"]


def test_nothing_comes_from_the_network_but_by_apt_and_pip(stages: list[list[Step]]) -> None:
    assert not every(stages, "ADD")
    ran = " ".join(every(stages, "RUN"))
    assert not re.search(r"\b(curl|wget|git|sudo|ssh|https?:)\b", ran)
    for source in every(stages, "COPY"):
        assert not source.startswith("http")


def test_packages_are_wheels_of_the_lock_each_by_its_hash(
    stages: list[list[Step]], bento: Path, device: str
) -> None:
    (install,) = (run for run in every(stages, "RUN") if "pip --python" in run)
    wanted = "--require-hashes --no-deps --only-binary :all: --no-cache-dir"
    for option in re.findall(r"--\S+(?: :all:)?", wanted):
        assert option in install
    (lock,) = (bento / "src" / "requirements").iterdir()
    assert lock.name == f"serve-{device}.txt"
    assert lock.read_bytes() == (ROOT / "requirements" / lock.name).read_bytes()
    assert "--requirement /build/serve-*.txt" in install


def test_debian_packages_bring_no_others_and_no_lists(stages: list[list[Step]]) -> None:
    for stage in stages:
        for name, rest in stage:
            if name == "RUN" and "apt-get install" in rest:
                assert "install -y --no-install-recommends" in rest
                assert "apt-get update" in rest, "or an old list is taken from the cache"
    shipped = [rest for stage in (stages[1], stages[3]) for name, rest in stage if name == "RUN"]
    assert all("rm -rf /var/lib/apt/lists/*" in run for run in shipped if "apt-get" in run)
    installed = {
        word
        for run in shipped
        for names in re.findall(r"--no-install-recommends ([^&]*)", run)
        for word in names.split()
    }
    assert installed == {"ca-certificates", "python3"}


def test_only_the_last_stages_files_are_shipped_and_they_are_nobodys(
    stages: list[list[Step]],
) -> None:
    copied = [rest for name, rest in stages[-1] if name == "COPY"]
    assert copied == [
        "--from=packages /opt/ecg /opt/ecg",
        "--from=packages /bento /bento",
    ], "owned by root: the service's user changes nothing"


def test_a_fixed_user_without_rights_runs_it(stages: list[list[Step]]) -> None:
    last = [name for name, _ in stages[-1]]
    assert every(stages, "USER") == ["10001:10001"]
    after = last[last.index("USER") :]
    assert not {"RUN", "COPY"} & set(after)


def test_all_that_is_written_lies_in_two_folders(stages: list[list[Step]]) -> None:
    said = environment(stages[-1])
    for name in ("HOME", "BENTOML_HOME"):
        assert said[name].split("/")[1] == "tmp"
    assert every(stages, "VOLUME") == ['["/state"]']
    assert any("ln -s /state /bento/src/state" in run for run in every(stages, "RUN"))
    assert said["PYTHONDONTWRITEBYTECODE"] == "1"
    assert not [name for name in said if name.startswith("ECG_")], "a settings file would not count"


def test_the_gpus_image_alone_asks_for_gpus(stages: list[list[Step]], device: str) -> None:
    asks = {name for name in environment(stages[-1]) if name.startswith("NVIDIA_")}
    expected = {"NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES"}
    assert asks == (expected if device == "gpu" else set())


def test_what_the_service_wants_of_its_environment_is_in_the_image(
    stages: list[list[Step]], bento: Path
) -> None:
    said = environment(stages[-1])
    for wanted in yaml.safe_load((bento / "bento.yaml").read_text())["envs"]:
        assert said[wanted["name"]] == wanted["value"]
    assert said["MALLOC_ARENA_MAX"], "as service/bento.py asks"


def test_it_tells_its_health_and_ends_in_order(stages: list[list[Step]]) -> None:
    (health,) = every(stages, "HEALTHCHECK")
    assert "/livez" in health and "curl" not in health
    assert every(stages, "STOPSIGNAL") == ["SIGTERM"]
    (entry,) = every(stages, "ENTRYPOINT")
    assert entry.startswith('["bentoml", "serve", "/bento"'), "no shell between it and the signal"


def test_labels_say_what_it_is(stages: list[list[Step]]) -> None:
    labels = dict(
        re.findall(r'org\.opencontainers\.image\.(\w+)="([^"]*)"', every(stages, "LABEL")[0])
    )
    assert labels["licenses"] == "Apache-2.0"
    assert "Research use only" in labels["description"]
    assert {"version", "revision", "source", "title"} <= set(labels)


def test_the_context_has_what_is_served_and_nothing_else(bento: Path) -> None:
    assert {path.name for path in (bento / "src").iterdir()} == {
        "LICENSE",
        "bentofile.yaml",  # by BentoML
        "ecg",
        "models_store",
        "requirements",
        "service",
    }
    assert not list(bento.rglob("*.pyc"))


def test_the_lock_has_neither_torch_nor_what_only_the_tests_read_with(device: str) -> None:
    lock = (ROOT / "requirements" / f"serve-{device}.txt").read_text()
    names = set(re.findall(r"^([\w.-]+)==", lock, re.MULTILINE))
    assert "onnxruntime" + ("-gpu" if device == "gpu" else "") in names
    assert not {"torch", "pytest", "wfdb", "pandas", "matplotlib"} & names
