"""Generators that cannot invent: what anything better must be better than.

An ECG is asked for by its labels and answered by the training ECG whose labels are nearest, as it
is, or disturbed in ways that leave its labels true.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from scipy.interpolate import CubicSpline

from ecg.labels import OTHER_FEATURES, Labels, encode
from training import processes, shards
from training.generators.maker import Given, Maker, Sampler, description, only_known
from training.ldm.latents import labels_of
from training.train_classifier import TRAIN
from training.train_denoiser import occurring_statements

KEPT = "training.npz"
# One statement too many, or another substrate, is farther than any age, sex and heart rate
# together; one statement missing is farther than several too many.
FAR, WORSE = 100.0, 10.0
MAX_STRETCH = 0.03  # of time: what a heart rate may change by, as a share


def train(given: Given) -> None:
    """Nothing to learn: the run keeps the training records themselves."""
    part = given.part.folds(TRAIN)
    if not len(part.sig):
        raise SystemExit(f"{part.source}: no whole segment in folds 1-8")
    given.describe(statements=occurring_statements([part]))
    if processes.is_first():
        shards.save(part, given.run / KEPT)
        processes.say(f"{len(part.sig)} segments kept in {given.run / KEPT}")


def load_copies(run: Path, sampler: Sampler) -> Maker:
    only_known("copies", sampler)
    return _maker(run, "copies", lambda sig, fs, rng: sig)


def load_augmented(run: Path, sampler: Sampler) -> Maker:
    only_known("augmented", sampler)
    return _maker(run, "augmented", disturbed)


def _maker(
    run: Path, name: str, change: Callable[[np.ndarray, float, np.random.Generator], np.ndarray]
) -> Maker:
    statements = tuple(description(run, name)["statements"])
    part = shards.load(run / KEPT)
    known = _told([labels_of(part, i, statements) for i in range(len(part.sig))], statements)
    fs = part.preparation.fs

    def make(labels: Sequence[Labels], seed: int) -> np.ndarray:
        made = np.empty((len(labels), *part.sig.shape[1:]), np.float32)
        for i, asked in enumerate(_told(labels, statements)):
            rng = np.random.default_rng((seed, i))
            row = rng.choice(nearest(asked, known, len(statements)))
            made[i] = change(part.sig[row].astype(np.float32), fs, rng)
        return made

    return Maker(statements, make)


def _told(labels: Sequence[Labels], statements: Sequence[str]) -> np.ndarray:
    """[n, features]."""
    return np.stack([encode(one, statements) for one in labels])


def nearest(asked: np.ndarray, known: np.ndarray, n_statements: int) -> np.ndarray:
    """The rows of `known` [segment, features] that come nearest to what is `asked` [features], all
    of them that are equally near: first those with every statement asked for, then with as few
    others and as rarely another substrate, then by sex, age and heart rate. What is not asked for
    does not count."""
    s, present = asked[:n_statements], known[:, :n_statements]
    complete = asked[n_statements]
    far = WORSE * FAR * (present[:, s == 1] == 0).sum(axis=1)
    far += FAR * complete * present[:, s == 0].sum(axis=1)
    start = n_statements
    for group in OTHER_FEATURES:
        given, theirs = asked[start : start + len(group)], known[:, start : start + len(group)]
        start += len(group)
        if group == ("complete",) or not given.any():
            continue
        if group[0].endswith(" given"):
            far += np.where(theirs[:, 0] == 1, np.abs(theirs[:, 1] - given[1]), 1.0)
        else:
            weight = FAR if group == ("normal", "abnormal") else 1.0
            far += weight * (theirs != given).any(axis=1)
    return np.flatnonzero(far == far.min())


def disturbed(sig: np.ndarray, fs: float, rng: np.random.Generator) -> np.ndarray:
    """mV [8, time] at another gain, a little earlier or later and faster or slower, with some
    noise and baseline wander: no label changes, and the heart rate by at most MAX_STRETCH."""
    n = sig.shape[1]
    u = np.linspace(0, 1, n)
    length = (n - 1) * (1 - rng.uniform(0, 0.6 * MAX_STRETCH))
    phase = rng.uniform(0, 2 * np.pi)
    bend = (
        0.3 * MAX_STRETCH * length / (2 * np.pi) * (np.sin(2 * np.pi * u + phase) - np.sin(phase))
    )
    position = rng.uniform(0, n - 1 - length) + length * u + bend
    out = CubicSpline(np.arange(n), sig, axis=1)(position.clip(0, n - 1))
    out *= np.exp(0.1 * rng.standard_normal())
    out += rng.uniform(0, 0.02) * rng.standard_normal(out.shape)
    slow = np.sin(2 * np.pi * (rng.uniform(0.15, 0.5) * np.arange(n) / fs + rng.random()))
    out += rng.uniform(0, 0.05) * rng.standard_normal((len(out), 1)) * slow
    return out.astype(np.float32)
