"""The training commands, run in this process: importing torch anew takes longer than they do."""

from __future__ import annotations

import contextlib
import importlib
import io
import sys
import warnings
from collections.abc import Iterator

import pytest
import torch


def command(verb: str, *arguments: object, preset: str | None = "smoke") -> str:
    """What `python -m training.VERB` prints. Errors: AssertionError with what it ends with."""
    module = importlib.import_module(f"training.{verb}")
    told = [*(["--preset", preset] if preset else []), *map(str, arguments)]
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed), one_thread():
        patch.setattr(sys, "argv", [f"training.{verb}", *told])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # as a command does, whose warnings are not errors
            try:
                module.main()
            except SystemExit as end:
                assert not end.code, end.code
    return printed.getvalue()


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Networks this small wait more for each other than they compute."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
