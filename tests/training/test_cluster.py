"""The same set from any number of machines: on real clusters of Ray, with the shipped generator."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ecg.labels import Labels
from ecg.store import load_generator
from tests.conftest import ROOT
from tests.training import rays
from tests.training.rays import Nodes
from training import cluster, generate

STORE = ROOT / "models_store"
SMALL = "from training import cluster, generate; generate.SHARD, cluster.ROWS = 64, 32; "
BALANCED = ("--num-steps", 4, "--balance", "--seed", 7, "--batch-size", 8, "--store", STORE)


pytestmark = pytest.mark.timeout(1200)  # a node takes seconds to start, on a busy machine minutes


@pytest.fixture(scope="module", autouse=True)
def token() -> Iterator[None]:
    """Of the clusters here, known to their processes alone. Before Ray is imported: it reads it
    once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
        yield


@pytest.fixture(autouse=True)
def small_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generate, "SHARD", 64)
    monkeypatch.setattr(cluster, "ROWS", 32)


@pytest.fixture
def ray_folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Where a cluster of this process alone has its sockets and logs."""
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as f:
        monkeypatch.setenv("RAY_TMPDIR", f)
        yield


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    with Nodes(1, 2) as running:
        yield running


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of 200 from one core of this machine, by the command that its user types."""
    out = tmp_path_factory.mktemp("local") / "set.npz"
    with begin(*BALANCED, "-n", 200, "--workers", 1, "--out", out) as command:
        _, said = command.communicate(timeout=900)
        assert command.returncode == 0, said
    return out


def begin(*arguments: object, **environment: str) -> subprocess.Popen:
    """The command in a process of its own, with small shards and tasks."""
    return subprocess.Popen(
        [sys.executable, "-c", f"{SMALL}generate.main()", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, **environment},
        stderr=subprocess.PIPE,
        text=True,
    )


def sha256(out: Path) -> str:
    """Of a file, or of a folder's files and their names."""
    digest = hashlib.sha256()
    for file in sorted(out.rglob("*")) if out.is_dir() else [out]:
        if file.is_file():
            digest.update(file.relative_to(out.parent).as_posix().encode() * out.is_dir())
            digest.update(file.read_bytes())
    return digest.hexdigest()


def until(condition, seconds: float = 600.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came about"
        time.sleep(0.02)


def test_ray_is_not_imported_where_it_is_not_asked_for() -> None:
    told = "import sys, training.generate; sys.exit('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", told], cwd=ROOT).returncode == 0


# The same bytes


def test_ray_on_this_machine_makes_the_same_bytes(
    run_command, tmp_path: Path, ray_folder: None
) -> None:
    asked = ("--num-steps", 2, "--balance", "-n", 70, "--seed", 3, "--store", STORE)
    here, there = tmp_path / "here.npz", tmp_path / "there.npz"
    run_command(generate, *asked, "--workers", 1, "--out", here)
    run_command(generate, *asked, "--ray", "local", "--out", there)
    assert sha256(here) == sha256(there)
    with np.load(there) as made:
        assert made["data"].shape == (70, 1000, 12)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["npz", "csv", "wfdb"])
def test_several_nodes_make_the_same_bytes(
    nodes: Nodes, local: Path, run_command, tmp_path: Path, form: str
) -> None:
    suffix = {"npz": ".npz", "csv": ".csv", "wfdb": ""}[form]
    n = 200 if form == "npz" else 70
    out = tmp_path / "there" / f"set{suffix}"
    out.parent.mkdir()
    run_command(generate, *BALANCED, "-n", n, "--ray", nodes.address, "--out", out)
    expected = local
    if form != "npz":
        expected = tmp_path / f"set{suffix}"
        run_command(generate, *BALANCED, "-n", n, "--workers", 1, "--out", expected)
    assert sha256(out) == sha256(expected)
    assert [p.name for p in out.parent.iterdir()] == [out.name], "nothing is left beside"


@pytest.mark.slow
def test_four_workers_on_one_node_make_the_same_bytes(
    local: Path, run_command, tmp_path: Path
) -> None:
    with Nodes(4) as four:
        run_command(
            generate, *BALANCED, "-n", 200, "--ray", four.address, "--out", tmp_path / "set.npz"
        )
    assert sha256(tmp_path / "set.npz") == sha256(local)


# What dies


@pytest.mark.slow
def test_a_node_killed_midway_loses_and_doubles_nothing(local: Path, tmp_path: Path) -> None:
    out = tmp_path / "set.npz"
    with Nodes(1, 1, 1) as three:
        doomed = three.running[-1]
        with begin(*BALANCED, "-n", 200, "--ray", three.address, "--out", out) as command:
            until(lambda: rays.is_at_work(doomed))
            rays.kill(doomed)
            assert not out.exists(), "it was killed midway"
            _, said = command.communicate(timeout=900)
            assert command.returncode == 0, said
    assert "200/200" in said
    assert sha256(out) == sha256(local)


@pytest.mark.slow
def test_a_killed_command_goes_on_from_what_is_there(
    nodes: Nodes, local: Path, tmp_path: Path
) -> None:
    out = tmp_path / "set.npz"
    asked = (*BALANCED, "-n", 200, "--ray", nodes.address, "--out", out)
    shard = tmp_path / "set.npz.parts" / "000000000.npy"
    with begin(*asked) as first:
        until(shard.exists)
        first.send_signal(signal.SIGKILL)
        first.communicate(timeout=60)
    assert not out.exists(), "it was killed midway"
    made = shard.stat().st_mtime_ns, shard.stat().st_ino
    written = []
    with begin(*asked) as again:
        while again.poll() is None:
            with contextlib.suppress(FileNotFoundError):
                written.append((shard.stat().st_mtime_ns, shard.stat().st_ino))
            time.sleep(0.05)
        assert again.returncode == 0
    assert set(written) == {made}, "what was there was not made again"
    assert sha256(out) == sha256(local)


@pytest.mark.slow
def test_a_node_that_joins_takes_part(local: Path, tmp_path: Path) -> None:
    out = tmp_path / "set.npz"
    asked = (*BALANCED, "-n", 600, "--out", out)
    with Nodes(1) as growing, begin(*asked, "--ray", growing.address) as command:
        until(lambda: rays.is_at_work(growing.running[-1]))
        late = growing.add(1)
        until(lambda: rays.is_at_work(late) or command.poll() is not None)
        assert command.poll() is None, "it ended before the node had come"
        command.communicate(timeout=900)
        assert command.returncode == 0
    with np.load(local) as fewer, np.load(out) as more:
        np.testing.assert_array_equal(more["data"][:200], fewer["data"])


# In order, and not too much at a time


@pytest.mark.slow
def test_what_comes_out_of_order_is_given_in_order_and_only_so_much_is_begun(
    nodes: Nodes,
) -> None:
    card = load_generator(STORE / "ldm", "cpu").card
    task = cluster.Task(
        sha256={"denoiser.onnx": card.sha256, "decoder.onnx": card.decoder_sha256},
        seed=1,
        diffusion=card.diffusion.model_copy(update={"num_steps": 1}),
        batch_size=8,
        device="cpu",
        versions=cluster.versions(),
    )
    pieces = [range(0, 200), *(range(start, start + 4) for start in range(200, 400, 4))]
    begun: list[range] = []

    def counted() -> Iterator[range]:
        for rows in pieces:
            begun.append(rows)
            yield rows

    with cluster.connected(nodes.address, "cpu") as cores:
        assert cores() == 3
        made = cluster.generate_on(
            cores, cluster.read(STORE / "ldm"), task, lambda row: Labels(), counted(), print
        )
        sizes = []
        for _ in pieces:
            sig, machine = next(made)
            sizes.append(len(sig))
            assert machine == cluster.machine("cpu")
            assert len(begun) - len(sizes) < cluster.AHEAD * cores()
        assert next(made, None) is None
    assert sizes == [len(rows) for rows in pieces]


# What is refused


def task_and_files(**changes: object) -> tuple[cluster.Task, cluster.Sent]:
    card = load_generator(STORE / "ldm", "cpu").card
    given: dict = {
        "sha256": {"denoiser.onnx": card.sha256, "decoder.onnx": card.decoder_sha256},
        "seed": 1,
        "diffusion": card.diffusion,
        "batch_size": 8,
        "device": "cpu",
        "versions": cluster.versions(),
        **changes,
    }
    return cluster.Task(**given), cluster.read(STORE / "ldm")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["denoiser.onnx", "decoder.onnx"])
def test_a_machine_refuses_other_weights(nodes: Nodes, name: str) -> None:
    task, sent = task_and_files()
    other = sent[name].copy()
    other[-1] ^= 1
    with (
        pytest.raises(SystemExit, match=rf"was sent another {name}: the sha256 differs; what is"),
        cluster.connected(nodes.address, "cpu") as cores,
    ):
        altered = {**sent, name: other}
        list(cluster.generate_on(cores, altered, task, lambda row: Labels(), [range(2)], print))


@pytest.mark.slow
def test_a_machine_with_another_runtime_is_refused(nodes: Nodes) -> None:
    task, sent = task_and_files(versions={**cluster.versions(), "onnxruntime": "1.0.0"})
    with (
        pytest.raises(SystemExit, match=r"has onnxruntime [\d.]+, not 1\.0\.0: install the same"),
        cluster.connected(nodes.address, "cpu") as cores,
    ):
        list(cluster.generate_on(cores, sent, task, lambda row: Labels(), [range(2)], print))


@pytest.mark.slow
def test_a_cluster_without_a_gpu_is_refused_one(nodes: Nodes, run_command, tmp_path: Path) -> None:
    asked = (*BALANCED, "-n", 2, "--device", "cuda", "--out", tmp_path / "set.npz")
    with pytest.raises(SystemExit, match="no machine of the cluster offers a GPU"):
        run_command(generate, *asked, "--ray", nodes.address)


@pytest.mark.slow
def test_another_version_of_ray_is_named(
    nodes: Nodes, run_command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    monkeypatch.setattr(ray, "__version__", "2.9.9")
    with pytest.raises(SystemExit) as stopped:
        run_command(
            generate, *BALANCED, "-n", 2, "--ray", nodes.address, "--out", tmp_path / "set.npz"
        )
    said = str(stopped.value)
    assert "Version mismatch" in said and "2.9.9" in said and "install the same Ray" in said
    assert "\n" not in said


@pytest.mark.slow
def test_a_cluster_that_asks_for_another_token_is_not_waited_for(
    nodes: Nodes, tmp_path: Path
) -> None:
    asked = (*BALANCED, "-n", 2, "--ray", nodes.address, "--out", tmp_path / "set.npz")
    with begin(*asked, RAY_AUTH_TOKEN="0" * 64) as command:
        _, said = command.communicate(timeout=900)
    assert command.returncode == 1
    assert "RAY_AUTH_MODE=token and its RAY_AUTH_TOKEN" in said.splitlines()[-1]


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("unused", "nothing answers there .*: start a head with 'ray start --head --port="),
        ("nowhere.invalid:6379", "nothing answers there"),
        ("ray://127.0.0.1:10001", "expected HOST:PORT of the cluster's head, auto or local"),
        ("cluster", "expected HOST:PORT"),
        ("auto", "this machine is part of no cluster"),
    ],
)
def test_an_address_that_is_no_cluster_is_refused_at_once(
    run_command, tmp_path: Path, address: str, says: str, ray_folder: None
) -> None:
    address = f"127.0.0.1:{rays.free_port()}" if address == "unused" else address
    with pytest.raises(SystemExit, match=says) as stopped:
        run_command(generate, *BALANCED, "--ray", address, "--out", tmp_path / "set.npz")
    assert "\n" not in str(stopped.value)


def test_without_ray_it_says_how_to_get_it(
    run_command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SystemExit, match="the package ray, which is not installed here"):
        run_command(generate, *BALANCED, "--ray", "auto", "--out", tmp_path / "set.npz")


def test_workers_are_this_machines(run_command, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="--workers is for this machine"):
        run_command(
            generate, *BALANCED, "--ray", "auto", "--workers", 2, "--out", tmp_path / "set.npz"
        )


def test_tasks_are_whole_batches_and_none_of_two_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "ROWS", 256)
    shards = [range(0, 1000), range(1000, 1300)]
    assert list(cluster.pieces(shards, 100)) == [
        *(range(start, start + 200) for start in range(0, 1000, 200)),
        range(1000, 1200),
        range(1200, 1300),
    ]
    assert list(cluster.pieces([range(1000)], 512)) == [range(512), range(512, 1000)]
