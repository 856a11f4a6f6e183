"""A program: run a command where only one folder of this machine can be written to.

    unshare --mount python apart.py FOLDER COMMAND…

Places for temporary files are the command's own, empty, and in memory; what is kept visible in them
is what it needs to run. All else is read-only, so that what it writes is in FOLDER or in them.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from pathlib import Path

PLACES = ("/tmp", "/var/tmp", "/dev/shm", "/run")
MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC = 1, 32, 4096, 16384
_libc = ctypes.CDLL(None, use_errno=True)


def mount(source: str, target: str, kind: str | None, flags: int) -> None:
    if _libc.mount(source.encode(), target.encode(), kind and kind.encode(), flags, None):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), target)


def main(folder: str, *command: str) -> None:
    code = str(Path(__file__).resolve().parents[2])
    kept = {}
    for path in dict.fromkeys((code, sys.prefix, sys.base_prefix, folder)):
        if path == folder or path.startswith(tuple(f"{place}/" for place in PLACES)):
            kept[path] = os.open(path, os.O_PATH)
    for place in PLACES:
        if os.path.isdir(place):
            mount("tmpfs", place, "tmpfs", 0)
    for path, held in kept.items():
        os.makedirs(path, exist_ok=True)
        mount(f"/proc/self/fd/{held}", path, None, MS_BIND | MS_REC)
        os.close(held)
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for path in mounts:
        if path not in (*PLACES, folder) and not path.startswith(("/proc", "/dev", "/sys")):
            with contextlib.suppress(OSError):  # hidden by another, or locked
                mount("", path, None, MS_REMOUNT | MS_BIND | MS_RDONLY)
    os.chdir(code)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(*sys.argv[1:])
