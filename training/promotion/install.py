"""A model's folder takes the place of another in the store: at once, or not at all."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import sys
from pathlib import Path

from ecg.card import ClassifierCard, GeneratorCard, read_card
from ecg.store import CARD, DECODER, DENOISER, WEIGHTS
from training.export import write_table

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


def hashes(card: ClassifierCard | GeneratorCard) -> tuple[str, ...]:
    if isinstance(card, GeneratorCard):
        return card.sha256, card.decoder_sha256
    return (card.sha256,)


def install(candidate: Path, store: Path, name: str, kept: Path | None) -> None:
    """Move the candidate to store/name, and what was there to `kept`, or away.

    Whoever opens store/name sees the one or the other, whole.
    """
    folder, beside = store / name, store.parent / f".{store.name}-{name}.new"
    kind = GeneratorCard if (candidate / DENOISER).exists() else ClassifierCard
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    card = read_card(candidate / CARD, kind).model_copy(update={"name": name})
    for weights in (DENOISER, DECODER) if kind is GeneratorCard else (WEIGHTS,):
        shutil.copyfile(candidate / weights, beside / weights)
    (beside / CARD).write_text(card.model_dump_json(indent=1) + "\n")
    for file in beside.iterdir():
        _to_disk(file)
    store.mkdir(parents=True, exist_ok=True)
    if folder.exists():
        exchange(beside, folder)
        if kept:
            beside.rename(kept)
        else:
            shutil.rmtree(beside)
    else:
        beside.rename(folder)
    _to_disk(store)
    write_table(store)
    shutil.rmtree(candidate)


def exchange(a: Path, b: Path) -> None:
    """Two folders of one file system change places in one step (renameat2 of Linux); elsewhere in
    three, of which the first two are undone if the last one fails."""
    if sys.platform == "linux":
        renameat2 = getattr(ctypes.CDLL(None), "renameat2", None)
        paths = (_AT_FDCWD, os.fsencode(a), _AT_FDCWD, os.fsencode(b))
        if renameat2 and renameat2(*paths, _RENAME_EXCHANGE) == 0:
            return
    aside = a.with_name(f"{a.name}.old")
    b.rename(aside)
    try:
        a.rename(b)
    except OSError:
        aside.rename(b)
        raise
    aside.rename(a)


def _to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
