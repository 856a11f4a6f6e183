"""The servers that are compared: how each is installed, started, asked and understood."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from loadtest import run
from loadtest.bodies import Body
from loadtest.peers import triton_app
from loadtest.server import ROOT

HERE = Path(__file__).resolve().parent
CORES = str(os.cpu_count() or 1)
LISTEN = ("--host", "127.0.0.1", "--port", "{port}")


@dataclass(frozen=True)
class Contender:
    """A server. `environment` names its requirements and virtual environment; None: this project's
    own. `program` is a command below that environment's bin/."""

    name: str
    title: str
    environment: str | None
    program: tuple[str, ...]
    body: Callable[[Body], Body]  # the same NPZ, as this server takes it
    said: Callable[[Any], list[list[float]]]  # its answer: probabilities [segment][output]
    ready: str = "/readyz"
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def calibrated(self) -> bool:
        """Ours answers calibrated probabilities, its peers the sigmoid of the logits."""
        return self.environment is None

    def command(self) -> tuple[str, ...]:
        if self.environment is None:
            return self.program
        program = folder(self.environment).relative_to(ROOT) / "bin" / self.program[0]
        return (str(program), *self.program[1:])

    def install(self) -> None:
        """Makes its environment, where there is none of these requirements.

        Errors: CalledProcessError, after what pip said on stderr.
        """
        if self.environment is None:
            return
        wanted = (HERE / f"requirements-{self.environment}.txt").read_text()
        installed = folder(self.environment) / "installed"
        if installed.exists() and installed.read_text() == wanted:
            return
        print(f"installing {installed.parent.name}", flush=True)
        venv = [sys.executable, "-m", "venv", "--clear", installed.parent]
        subprocess.run(venv, check=True)  # nosec B603  # no shell, nothing from outside
        pip = [installed.parent / "bin" / "python", "-m", "pip", "install", "--quiet",
               "--disable-pip-version-check"]  # fmt: skip
        wanted_file = HERE / f"requirements-{self.environment}.txt"
        subprocess.run([*pip, "-r", wanted_file], check=True)  # nosec B603  # no shell, nothing else
        installed.write_text(wanted)


def folder(environment: str) -> Path:
    return ROOT / f".venv-peer-{environment}"


def as_is(body: Body) -> Body:
    return body


def as_file(field_name: str) -> Callable[[Body], Body]:
    """The NPZ as a multipart upload."""

    def multipart(body: Body) -> Body:
        boundary = "ecg-direnet-peers"
        head = (
            f"--{boundary}\r\nContent-Disposition: form-data; "
            f'name="{field_name}"; filename="ecg.npz"\r\n\r\n'
        )
        content = head.encode() + body.content + f"\r\n--{boundary}--\r\n".encode()
        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        return replace(body, content=content, headers=headers)

    return multipart


def as_kserve(body: Body) -> Body:
    """The NPZ as an inference request of KServe v2."""
    content, headers = triton_app.request(body.content)
    return replace(body, path=triton_app.PATH, content=content, headers=headers)


def ours(said: Any) -> list[list[float]]:
    return [
        [one["atrial_substrate"]["probability"], *(s["probability"] for s in one["statements"])]
        for one in said["results"]
    ]


def named(said: Any) -> list[list[float]]:
    return [list(one.values()) for one in said["results"]]


def named_of_one(said: Any) -> list[list[float]]:
    (only,) = said
    return named(only)


def tensor(said: Any) -> list[list[float]]:
    (output,) = said["outputs"]
    return np.reshape(output["data"], output["shape"])[0].tolist()


def contenders() -> list[Contender]:
    quiet = ("--no-access-log", "--log-level", "warning")
    return [
        Contender("ours", "ECG-DiReNet", None, run.SERVICE, as_is, ours),
        Contender(
            "fastapi",
            "FastAPI, `def` handler, a process a core",
            "fastapi",
            ("uvicorn", "loadtest.peers.fastapi_plain:app", *LISTEN, "--workers", CORES, *quiet),
            as_is,
            named,
        ),
        Contender(
            "fastapi-batched",
            "FastAPI, micro-batcher by hand",
            "fastapi",
            ("uvicorn", "loadtest.peers.fastapi_batched:app", *LISTEN, *quiet),
            as_is,
            named,
        ),
        Contender(
            "bentoml",
            "BentoML, `batchable=True`, a process a core",
            "bentoml",
            ("bentoml", "serve", "loadtest.peers.bentoml_batchable:Peer", *LISTEN),
            as_file("files"),
            named_of_one,
        ),
        Contender(
            "litserve",
            "LitServe, batched, a process a core",
            "litserve",
            ("python", "-m", "loadtest.peers.litserve_app", "{port}"),
            as_file("file"),
            named,
            ready="/health",
        ),
        Contender(
            "triton",
            "Triton (PyTriton), dynamic batching",
            "triton",
            ("python", "-m", "loadtest.peers.triton_app", "{port}"),
            as_kserve,
            tensor,
            ready=triton_app.READY,
            # Triton's Python stub is linked to libpython, which need not be where ld looks
            variables={"LD_LIBRARY_PATH": sysconfig.get_config_var("LIBDIR")},
        ),
    ]
