"""The image: built from its container file, run as an operator would, and asked for an answer.

Needs Docker or Podman. Where no registry can be reached, name what
takes the base's place in IMAGE_BUILD_ARGS, see deploy/images/README.md; IMAGE names an image that
was built before.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from ecg.record import Record
from tests.conftest import DATA, ROOT
from tests.service.bodies import as_npz

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
LARGEST_MB = 600
OPEN = {"ECG_ACCESS": "off", "ECG_AUDIT": "off"}


def engine() -> str:
    """The command that builds and runs; Buildah alone cannot run."""
    script = ROOT / "deploy" / "images" / "engine.sh"
    found = subprocess.run([script], capture_output=True, text=True).stdout.strip()
    if found not in ("docker", "podman"):
        pytest.skip("neither Docker nor Podman answers")
    return found


def asked(*command: str | Path, **options: Any) -> str:
    done = subprocess.run(command, capture_output=True, text=True, **options)
    assert done.returncode == 0, f"{command}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> str:
    if given := os.environ.get("IMAGE"):
        return given
    engine()
    home = tmp_path_factory.mktemp("bentos")
    environment = {**os.environ, "BENTOML_HOME": str(home), "BENTOML_DO_NOT_TRACK": "True"}
    build = [sys.executable, "-m", "bentoml", "build", "-f", "bentofile.cpu.yaml"]
    asked(*build, cwd=ROOT, env=environment)
    (bento,) = home.glob("bentos/*/*/")
    more = shlex.split(os.environ.get("IMAGE_BUILD_ARGS", ""))
    asked(ROOT / "deploy" / "images" / "build.sh", bento, "localhost/ecg-direnet:test", *more)
    return "localhost/ecg-direnet:test"


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@dataclass
class Running:
    engine: str
    name: str
    user: str
    url: str
    ready_s: float

    def inside(self, *command: str) -> str:
        return asked(self.engine, "exec", "--user", self.user, self.name, *command)

    def python(self, program: str) -> str:
        return self.inside("python", "-c", program).strip()


@pytest.fixture(
    scope="module", params=["10001:10001", "23456:0"], ids=["its user", "a cluster's user"]
)
def container(image: str, request: pytest.FixtureRequest) -> Iterator[Running]:
    """Nothing is writable but /tmp and /state, and the user has no rights."""
    with started(image, request.param) as running:
        yield running


class started:
    def __init__(self, image: str, user: str, **settings: str) -> None:
        self.image, self.user, self.engine = image, user, engine()
        self.settings = OPEN | settings
        self.port = free_port()
        self.name = f"ecg-direnet-test-{self.port}"

    def __enter__(self) -> Running:
        settings = {"BENTOML_HOST": "127.0.0.1", "BENTOML_PORT": str(self.port)} | self.settings
        begun = time.monotonic()
        asked(
            *(self.engine, "run", "--detach", "--name", self.name, "--user", self.user),
            *("--read-only", "--tmpfs", "/tmp", "--network", "host"),
            *("--cap-drop", "all", "--security-opt", "no-new-privileges"),
            *(word for name, value in settings.items() for word in ("--env", f"{name}={value}")),
            self.image,
        )
        url = f"http://127.0.0.1:{self.port}"
        while time.monotonic() < begun + 120:
            try:
                if httpx.get(f"{url}/readyz", timeout=2).status_code == 200:
                    took = time.monotonic() - begun
                    return Running(self.engine, self.name, self.user, url, took)
            except httpx.TransportError:
                time.sleep(0.1)
        said = subprocess.run([self.engine, "logs", self.name], capture_output=True, text=True)
        self.__exit__()
        raise RuntimeError(f"the container did not start:\n{said.stdout}{said.stderr}")

    def __exit__(self, *_: object) -> None:
        subprocess.run([self.engine, "rm", "--force", "--volumes", self.name], capture_output=True)


def test_its_layers_are_small(image: str) -> None:
    print(asked(engine(), "history", "--format", "{{.Size}}\t{{.CreatedBy}}", image))
    size = int(asked(engine(), "image", "inspect", "--format", "{{.Size}}", image))
    assert 100 < size / 1e6 < LARGEST_MB


def classified(url: str) -> dict[str, Any]:
    files = [("file", (p.name, p.read_bytes())) for p in sorted(DATA.glob("01275_lr.*"))]
    answer = httpx.post(f"{url}/classify", files=files, timeout=60).raise_for_status().json()
    answer.pop("request_id")
    return answer


def test_it_answers_as_the_checkout_does(container: Running, server_url: str) -> None:
    print(f"ready after {container.ready_s:.1f} s")
    theirs, ours = classified(container.url), classified(server_url)
    assert theirs == ours


def test_every_format_and_page_works_in_it(container: Running, record: Record) -> None:
    files = [("ecgtoolkit_example.dcm", "classify"), ("ecgtoolkit_Example.scp", "classify")]
    files += [("hl7_Example_aECG.zip", "classify"), ("ecgtoolkit_example.dcm", "print")]
    for name, endpoint in files:
        content = (DATA / name).read_bytes()
        httpx.post(f"{container.url}/{endpoint}", content=content, timeout=60).raise_for_status()
    png = {"Accept": "image/png"}
    body = as_npz(record)
    httpx.post(f"{container.url}/print", content=body, headers=png, timeout=60).raise_for_status()
    made = httpx.post(f"{container.url}/synthesize", json={"seed": 7}, timeout=60)
    assert np.shape(made.raise_for_status().json()["sig"]) == (1, 12, 1000)
    for page in ("/", "/docs", "/models", "/metrics", "/livez"):
        httpx.get(container.url + page).raise_for_status()


FORBIDDEN = "torch pip setuptools pytest wfdb pandas matplotlib training loadtest tests".split()
BROKEN = ("undefined symbol", "ELF", "cannot open", "segment")  # as the loader says it
EXTENSIONS = """
import json, pathlib, sys, warnings
warnings.simplefilter("ignore")
failed = []
root = pathlib.Path(sys.prefix, "lib", "python3.11", "site-packages")
for path in sorted(root.rglob("*.so")):
    if path.name.split(".", 1)[1].startswith(("cpython-", "abi3")):
        name = ".".join((*path.parent.relative_to(root).parts, path.name.split(".")[0]))
        try:
            __import__(name)
        except Exception as error:
            failed.append(f"{name}: {error!r}")
print(json.dumps(failed))
"""


def test_it_has_nothing_that_it_does_not_need(container: Running) -> None:
    found = container.python(
        f"import importlib.util as u; print([n for n in {FORBIDDEN} if u.find_spec(n)])"
    )
    assert found == "[]"
    tools = "gcc cc make git curl wget pip pip3 strip".split()
    found = container.python(f"import shutil; print([t for t in {tools} if shutil.which(t)])")
    assert found == "[]"


def test_every_extension_that_was_stripped_still_loads(container: Running) -> None:
    """But for those that need what is not installed."""
    failed = json.loads(container.python(EXTENSIONS).splitlines()[-1])
    assert not [said for said in failed if any(of in said for of in BROKEN)], failed


def test_nothing_can_be_written_but_in_two_folders(container: Running) -> None:
    classified(container.url)
    assert container.inside("id", "-u").strip() == container.user.split(":")[0]
    search = "find / -xdev -writable \\( -type d -o -type f \\) 2>/dev/null || true"
    found = set(container.inside("sh", "-c", search).split())
    assert found - {"/run", "/var/tmp"} == {"/state", "/tmp"}, "Podman adds two folders in memory"
    container.python("open('/state/x', 'w').close(); open('/tmp/x', 'w').close()")
    kept = container.inside("find", "/tmp", "-size", "+1024k", "-not", "-name", "*.db")
    assert kept.split() == [], "nothing of a request stays on a disk"


def test_its_health_is_asked_without_curl(container: Running, image: str) -> None:
    said = json.loads(asked(engine(), "image", "inspect", image))[0]
    health = said["Config"].get("Healthcheck") or said.get("HealthCheck") or said["Healthcheck"]
    kind, *command = health["Test"]
    assert kind == "CMD"
    container.inside(*command)
    elsewhere = [word.replace("/livez", "/nowhere") for word in command]
    with pytest.raises(AssertionError):
        container.inside(*elsewhere)


def test_told_to_stop_it_answers_what_it_had_accepted(image: str, record: Record) -> None:
    body = as_npz(dataclasses.replace(record, sig=np.tile(record.sig, 60)))

    async def stop_in_the_middle(running: Running) -> list[httpx.Response]:
        limits = httpx.Limits(max_connections=24)
        async with httpx.AsyncClient(base_url=running.url, timeout=120, limits=limits) as client:
            posts = [asyncio.create_task(client.post("/classify", content=body)) for _ in range(24)]
            while not any(post.done() for post in posts):
                await asyncio.sleep(0.005)
            stop = (running.engine, "stop", "--time", "60", running.name)
            await asyncio.gather(asyncio.to_thread(asked, *stop), *posts)
            return [post.result() for post in posts]

    with started(image, "10001:10001", ECG_MAX_DELAY_S="60") as running:
        answers = asyncio.run(stop_in_the_middle(running))
        state = json.loads(asked(running.engine, "inspect", running.name))[0]["State"]
    assert state["ExitCode"] == 0, "not killed"
    assert [answer.status_code for answer in answers] == [200] * 24
