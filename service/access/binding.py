"""Where this process listens: can it be reached from another machine?"""

from __future__ import annotations

import ipaddress
import os
import socket
import sys
from collections.abc import Sequence


def required(switch: str) -> bool:
    """Whether what is `on`, `off` or `auto` (on where others reach us) is on in this process."""
    return switch == "on" or (switch == "auto" and reachable())


def reachable(arguments: Sequence[str] | None = None) -> bool:
    """Whether the socket that this process was started with may be asked from elsewhere.

    BentoML hands its workers the listening socket as `--fd N`. Only a socket that is surely bound
    to this machine alone counts as such: whatever is not known counts as reachable.
    """
    fd = _listening(sys.argv[1:] if arguments is None else arguments)
    if fd is None:
        return True
    try:
        with socket.socket(fileno=os.dup(fd)) as listening:
            name = listening.getsockname()
            return listening.family != socket.AF_UNIX and not _loopback(name[0])
    except (OSError, ValueError):
        return True


def _listening(arguments: Sequence[str]) -> int | None:
    """The N of `--fd N` or `--fd=N`, if it is there once."""
    words = [word for given in arguments for word in given.split("=", 1)]
    after = [value for name, value in zip(words, words[1:], strict=False) if name == "--fd"]
    return int(after[0]) if len(after) == 1 and after[0].isdecimal() else None


def _loopback(host: str) -> bool:
    """Errors: ValueError where it is no address."""
    address = ipaddress.ip_address(host.partition("%")[0])
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback
