"""Where the service listens: on this machine alone, or for others too."""

from __future__ import annotations

import ipaddress
import os
import socket
import sys


def reachable_from_elsewhere() -> bool:
    """Whether the worker's socket, which BentoML hands over as `--fd N`, is bound to another
    address than loopback; what is not known counts as reachable."""
    try:
        fd = int(sys.argv[sys.argv.index("--fd") + 1])
        with socket.socket(fileno=os.dup(fd)) as listening:
            address = listening.getsockname()
        if listening.family == socket.AF_UNIX:
            return False
        return not ipaddress.ip_address(address[0]).is_loopback
    except (ValueError, IndexError, OSError):
        return True
