"""Whether a listening socket can be asked from elsewhere; what is not known counts as yes."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from service.access.binding import reachable, required


def bound(family: int, address: object) -> socket.socket:
    listening = socket.socket(family)
    try:
        listening.bind(address)
    except OSError as error:
        listening.close()
        pytest.skip(f"this machine has no such address: {error}")
    return listening


@pytest.mark.parametrize(
    ("family", "host", "from_elsewhere"),
    [
        (socket.AF_INET, "127.0.0.1", False),
        (socket.AF_INET, "127.8.7.6", False),
        (socket.AF_INET, "0.0.0.0", True),
        (socket.AF_INET6, "::1", False),
        (socket.AF_INET6, "::ffff:127.0.0.1", False),
        (socket.AF_INET6, "::", True),
    ],
)
def test_a_socket_of_this_machine_alone_is_not_reachable(
    family: int, host: str, from_elsewhere: bool
) -> None:
    with bound(family, (host, 0)) as listening:
        for words in (["--fd", str(listening.fileno())], [f"--fd={listening.fileno()}"]):
            assert reachable(["service.bento:EcgDirenet", *words]) is from_elsewhere
        assert listening.getsockname(), "it was looked at, and not closed"


def test_a_unix_socket_is_not_reachable(tmp_path: Path) -> None:
    with bound(socket.AF_UNIX, str(tmp_path / "s")) as listening:
        assert not reachable(["--fd", str(listening.fileno())])


def test_what_is_not_known_is_reachable(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file, bound(socket.AF_INET, ("127.0.0.1", 0)) as good:
        fd = str(good.fileno())
        for words in (
            [],
            ["--fd"],
            ["--fd", "seven"],
            ["--fd", "9999"],
            ["--fd", str(file.fileno())],
            ["--fd", fd, "--fd", fd],
        ):
            assert reachable(words)


def test_a_socket_pair_without_a_name_is_this_machines_own() -> None:
    one, other = socket.socketpair()
    with one, other:
        assert not reachable(["--fd", str(one.fileno())])


def test_the_switch_decides_before_the_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    with bound(socket.AF_INET, ("127.0.0.1", 0)) as here:
        monkeypatch.setattr("sys.argv", ["worker", "--fd", str(here.fileno())])
        assert (required("on"), required("off"), required("auto")) == (True, False, False)
    monkeypatch.setattr("sys.argv", ["pytest"])
    assert (required("on"), required("off"), required("auto")) == (True, False, True)
