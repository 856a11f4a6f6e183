"""Trainings shared by real processes, connected by gloo, as on machines that share no disk."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.conftest import ROOT
from training import processes, train_autoencoder
from training.shards import CODES, save

pytestmark = pytest.mark.timeout(900)
VERBS = ("train_classifier", "train_autoencoder", "train_denoiser")
SHORT = (
    *("--preset", "smoke", "--set", "loop.steps=4", "--set", "loop.batch_size=8"),
    *("--set", "loop.eval_every=4", "--set", "loop.save_every_s=0.0"),
)
ENDLESS = ("--preset", "smoke", "--set", "loop.steps=1000000", "--set", "loop.save_every_s=0.0")


@pytest.fixture
def data(a_shard, tmp_path: Path) -> Path:
    """Shards of which one has few labels: what two processes know is not as much in both."""
    few = np.full((200, 1 + len(CODES)), -1, dtype=np.int8)
    few[::7, 0] = 1
    folder = tmp_path / "data"
    folder.mkdir()
    save(a_shard(200), folder / "a.npz")
    save(a_shard(200, source="b", label=few), folder / "b.npz")
    return folder


@pytest.fixture
def arguments(data: Path, tmp_path: Path, run_command):
    """What a command needs beside its run."""

    def of(verb: str) -> tuple[object, ...]:
        if verb == "train_classifier":
            return ("--data", data, "--set", "model.dropout=0.0")
        if verb == "train_autoencoder":
            return ("--data", data)
        first = tmp_path / "first-stage"
        if not first.exists():
            run_command(train_autoencoder, "--preset", "smoke", "--data", data, "--run", first)
        return ("--data", data, "--autoencoder", first)

    return of


def alone(module: str, *given: object, **environment: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", module, *map(str, given)],
        cwd=ROOT,
        env={**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def pair(
    module: str, first: tuple, second: tuple, more: dict[str, str] | None = None
) -> list[subprocess.Popen]:
    """Two processes of one training, each with arguments of its own; `more` is the second's
    environment."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = str(s.getsockname()[1])
    started = []
    for rank, given in enumerate((first, second)):
        place = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
        place |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "LOCAL_WORLD_SIZE": "2"}
        started.append(alone(module, *given, **place, **((more or {}) if rank else {})))
    return started


def ended(*started: subprocess.Popen) -> list[tuple[int, str, str]]:
    out = []
    for process in started:
        said, complained = process.communicate(timeout=600)
        out.append((process.returncode, said, complained))
    return out


def succeeded(*started: subprocess.Popen) -> list[tuple[str, str]]:
    out = ended(*started)
    assert all(code == 0 for code, _, _ in out), out[0][2] + out[-1][2]
    return [(said, complained) for _, said, complained in out]


def checkpoint(run: Path) -> dict:
    return torch.load(run / "checkpoint.pt", weights_only=True)


def kept(folder: Path, name: str) -> object:
    return torch.load(folder / name, weights_only=True)


def differ(one: list[torch.Tensor], other: list[torch.Tensor]) -> float:
    """The greatest difference, of the greatest value."""
    pairs = list(zip(one, other, strict=True))
    return max((a - b).abs().max() for a, b in pairs) / max(b.abs().max() for _, b in pairs)


@pytest.mark.slow
@pytest.mark.parametrize("verb", VERBS)
def test_two_processes_do_what_one_does_with_both_shares(verb, arguments, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    given = (*SHORT, *arguments(verb))
    together = "tests.training.together"
    one = alone(together, verb, tmp_path / "one", *given, "--run", tmp_path / "run-one")
    succeeded(one)
    (said, _), (silent, _) = succeeded(
        *pair(
            together,
            (verb, tmp_path / "two", *given, "--run", tmp_path / "run-two"),
            (verb, tmp_path / "two", *given, "--run", tmp_path / "run-of-the-second"),
        )
    )
    assert "parameters" in said and not silent, "once, whatever the number of processes"
    assert not (tmp_path / "run-of-the-second").exists(), "the first alone writes"
    for step in range(4):
        whole = kept(tmp_path / "one", f"batch-{step}-0.pt")
        first, second = (kept(tmp_path / "two", f"batch-{step}-{rank}.pt") for rank in range(2))
        for name, value in whole.items():
            assert len(value) == 8 and len(first[name]) == len(second[name]) == 4
            assert torch.equal(torch.cat([first[name], second[name]]), value)
        signal_of = "latents" if verb == "train_denoiser" else "sig"
        assert not {x.numpy().tobytes() for x in first[signal_of]} & {
            x.numpy().tobytes() for x in second[signal_of]
        }, "an example of both"
        gradients = kept(tmp_path / "one", f"gradients-{step}-0.pt")
        for rank in range(2):
            shared = kept(tmp_path / "two", f"gradients-{step}-{rank}.pt")
            assert differ(shared, gradients) < (1e-4 if step == 0 else 1e-2)
    one_run, two_run = checkpoint(tmp_path / "run-one"), checkpoint(tmp_path / "run-two")
    assert one_run["step"] == two_run["step"] == 4
    assert (tmp_path / "run-two" / "best.pt").exists()
    assert len((tmp_path / "run-two" / "history.jsonl").read_text().splitlines()) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("verb", "begun_by"),
    [(VERBS[0], 1), (VERBS[0], 2), (VERBS[1], 1), (VERBS[2], 2)],
)
def test_a_run_goes_on_in_another_number_of_processes(
    verb, begun_by, arguments, tmp_path: Path
) -> None:
    """Two steps in one process and two in two, or the other way round, against four in one."""
    (tmp_path / "kept").mkdir()
    given = (verb, tmp_path / "kept", *SHORT, *arguments(verb), "--run")
    run, nowhere = tmp_path / "run", tmp_path / "run-of-the-second"
    together = "tests.training.together"

    def by(n: int, **environment: str) -> None:
        if n == 1:
            succeeded(alone(together, *given, run, **environment))
        else:
            with pytest.MonkeyPatch.context() as patch:
                for name, value in environment.items():
                    patch.setenv(name, value)
                succeeded(*pair(together, (*given, run), (*given, nowhere)))

    by(begun_by, STOP_AT="2")
    assert checkpoint(run)["step"] == 2
    by(3 - begun_by)
    succeeded(alone(together, *given, tmp_path / "whole"))
    expected, found = checkpoint(tmp_path / "whole"), checkpoint(run)
    assert found["step"] == expected["step"] == 4
    for name, value in expected["model"].items():
        torch.testing.assert_close(found["model"][name], value, atol=2e-3, rtol=2e-3)
    assert not nowhere.exists(), "the first alone reads and writes"


@pytest.mark.slow
def test_opponents_are_the_same_in_each_process(tmp_path: Path) -> None:
    """Each has another share of the batch, and other noise: their gradients are averaged."""
    succeeded(*pair("tests.training.opponents", (tmp_path,), (tmp_path,)))
    first, second = (kept(tmp_path, f"ended-{rank}.pt") for rank in range(2))
    for network in ("generator", "critics"):
        for name, value in first[network].items():
            assert torch.equal(value, second[network][name]), name
    alone_first = tmp_path / "alone"
    alone_first.mkdir()
    succeeded(alone("tests.training.opponents", alone_first))
    assert not torch.equal(
        kept(alone_first, "ended-0.pt")["generator"]["start.weight"],
        first["generator"]["start.weight"],
    )
    assert checkpoint(tmp_path / "run")["step"] == 3


def lives_on(killed: int, verb: str, given: tuple, tmp_path: Path) -> tuple[int, str]:
    """How the other one ends, when one of two is killed in the middle."""
    run = tmp_path / "run"
    started = pair(f"training.{verb}", (*given, "--run", run), (*given, "--run", run / "second"))
    deadline = time.monotonic() + 300
    while not (run / "checkpoint.pt").exists():
        assert time.monotonic() < deadline and started[0].poll() is None, "it never began"
        time.sleep(0.1)
    started[killed].send_signal(signal.SIGKILL)
    other = started[1 - killed]
    _, complained = other.communicate(timeout=120)
    started[killed].communicate()
    return other.returncode, complained


@pytest.mark.slow
@pytest.mark.parametrize(("verb", "killed"), [(VERBS[0], 0), (VERBS[1], 1), (VERBS[2], 0)])
def test_a_process_whose_other_was_killed_says_so_and_stops(
    verb, killed, arguments, tmp_path: Path
) -> None:
    code, complained = lives_on(killed, verb, (*ENDLESS, *arguments(verb)), tmp_path)
    assert code == 1
    said = complained.strip().splitlines()[-1]
    assert said.startswith(f"process {1 - killed} on ") and "another process of this" in said
    assert checkpoint(tmp_path / "run")["step"] > 0, "what the run goes on from is whole"


@pytest.mark.slow
def test_all_stop_before_the_same_step_by_the_first_ones_clock(arguments, tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    verb = "train_classifier"
    given = (verb, tmp_path / "kept", *ENDLESS, *arguments(verb), "--minutes", 0.05, "--run")
    succeeded(
        *pair(
            "tests.training.together",
            (*given, tmp_path / "run"),
            (*given, tmp_path / "second"),
            {"FAST_CLOCK": "1000"},
        )
    )
    step = checkpoint(tmp_path / "run")["step"]
    assert step > 0
    for rank in range(2):
        assert len(list((tmp_path / "kept").glob(f"gradients-*-{rank}.pt"))) == step


@pytest.mark.slow
@pytest.mark.parametrize("verb", VERBS)
def test_processes_of_different_data_or_configuration_do_not_begin(
    verb, arguments, data: Path, a_shard, tmp_path: Path
) -> None:
    given = (*SHORT, *arguments(verb))
    other = tmp_path / "other"
    other.mkdir()
    for path in data.glob("*.npz"):
        (other / path.name).write_bytes(path.read_bytes())
    shard = a_shard(200)
    shard.sig[0, 0, 0] += 1
    save(shard, other / "a.npz")
    for second, differing in (
        (("--data", other), "the data on"),
        (("--set", "loop.lr=0.5"), "the configuration on"),
    ):
        for code, _, complained in ended(
            *pair(
                f"training.{verb}",
                (*given, "--run", tmp_path / "run"),
                (*given, *second, "--run", tmp_path / "run"),
            )
        ):
            assert code == 1
            assert complained.strip().splitlines()[-1].startswith(differing)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_batch_that_cannot_be_shared_is_refused(arguments, tmp_path: Path) -> None:
    given = (*SHORT, *arguments("train_classifier"), "--set", "loop.batch_size=9", "--run")
    both = pair("training.train_classifier", *(((*given, tmp_path / f"{i}")) for i in range(2)))
    for code, _, complained in ended(*both):
        assert code == 1
        assert (
            "batch_size 9 cannot be shared by 2 processes: --set loop.batch_size=10" in complained
        )


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["torchrun", "accelerate"])
def test_the_launchers_connect_two_machines(launcher, data: Path, tmp_path: Path) -> None:
    """Two of them on this machine, as README.md has it, each with a folder of its own."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    started = []
    for rank in range(2):
        if launcher == "torchrun":
            place = (
                *("torch.distributed.run", "--nnodes", 2, "--nproc-per-node", 1),
                *("--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{port}"),
                *("--rdzv-id", "one", "-m", "--"),  # or it takes --run for an option of its own
            )
        else:
            place = (
                *("accelerate.commands.launch", "--multi_gpu", "--num_machines", 2),
                *("--num_processes", 2, "--machine_rank", rank, "--main_process_ip", "127.0.0.1"),
                *("--main_process_port", port, "--mixed_precision", "no"),
                *("--dynamo_backend", "no", "-m"),
            )
        run = ("--data", data, "--run", tmp_path / f"run-{rank}")
        started.append(alone(*place, "training.train_classifier", *SHORT, *run))
    out = succeeded(*started)
    assert sum("parameters" in said for said, _ in out) == 1, "said once"
    runs = [path for path in (tmp_path / "run-0", tmp_path / "run-1") if path.exists()]
    assert len(runs) == 1, "the first process alone writes"
    assert checkpoint(runs[0])["step"] == 4
    assert json.loads((runs[0] / "run.json").read_text())["config"]["loop"]["batch_size"] == 8


def test_a_steps_random_numbers_are_its_own() -> None:
    seeds = {processes.seed_of(seed, step) for seed in range(3) for step in range(50)}
    assert len(seeds) == 150 and all(0 <= seed < 2**63 for seed in seeds)
    assert processes.seed_of(1, 2) == processes.seed_of(1, 2)


def test_alone_nothing_is_shared() -> None:
    assert processes.is_first() and processes.share_of(9) == 9
    assert processes.first_says({"a": 1}) == {"a": 1}
    assert processes.mean_over_processes(torch.tensor(3.0)) == 3
    processes.agree("anything", [])


def test_an_error_of_another_kind_stays_what_it_is() -> None:
    with pytest.raises(RuntimeError, match="gloo"), processes.none_lost():
        raise RuntimeError("gloo: connection closed by peer")  # of one process alone
