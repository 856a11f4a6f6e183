"""The ECGs of a study, real and generated: alike in everything but where they come from.

All of them go through `prepared`: the generators' preparation, once more for those that have been
through it already, and the coarser float16 that prepared real sets are kept in. What is stored of
one and the other then differs in the heart's signal alone.
"""

from __future__ import annotations

import hashlib
import io
import json
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ecg.card import GeneratorCard
from ecg.generated import LABEL_OF
from ecg.generation import generate
from ecg.leads import LEADS
from ecg.prepare import Preparation, condition, cut
from ecg.record import Record
from ecg.store import Generator
from service.rating.plan import REAL, Plan, has, labels_of, shares

MAKE_AT_ONCE = 8
MAX_SET = 2**28  # bytes of samples that are read of a set
_SUBSTRATE = {value: name for name, value in LABEL_OF.items()}


class Unsuitable(Exception):
    """What is wrong with what a study was to be made of, in one sentence."""


@dataclass(frozen=True)
class Ecg:
    """One ECG of a study. sig: float16 mV [8, n_samples]; label: that is claimed; origin: the hash
    of a real one, the patient's where the set tells it, and all its statements; or the generator's
    hash, the seed, the row and the labels."""

    source: str
    label: str
    origin: dict[str, Any]
    sig: np.ndarray


@dataclass(frozen=True)
class RealSet:
    """ECGs of an NPZ as `training.real_set` writes it. sig: float32 mV [n, 12, time]; present: the
    statements of each; patient: a pseudonym of each, or an empty text."""

    sig: np.ndarray
    fs: float
    present: list[tuple[str, ...]]
    substrate: list[str | None]
    patient: list[str]
    sha256: str


def read_real(content: bytes) -> RealSet:
    """Errors: Unsuitable."""
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as f:
            names = set(f.files)
            wanted = {"data", "fs", "leads", "units", "synthetic", "present", "label"}
            if missing := sorted(wanted - names):
                raise Unsuitable(f"the real set lacks {', '.join(missing)}: see training.real_set")
            if sum(info.file_size for info in f.zip.infolist()) > MAX_SET:
                raise Unsuitable(f"the real set is larger than {MAX_SET >> 20} MiB: take fewer")
            arrays = {name: f[name] for name in (*sorted(wanted), "patient") if name in names}
    except Unsuitable:
        raise
    except Exception:  # numpy and zipfile leak many kinds
        raise Unsuitable("the real set is no NPZ that can be read") from None
    if bool(arrays["synthetic"]):
        raise Unsuitable("the real set says of itself that it is synthetic")
    data, leads = arrays["data"], tuple(map(str, arrays["leads"]))
    n = len(data)
    if data.ndim != 3 or leads != LEADS or str(arrays["units"]) != "mV" or data.shape[2] != 12:
        raise Unsuitable("the real set must hold `data` [n, time, lead] in mV of the 12 leads")
    if not len(arrays["present"]) == len(arrays["label"]) == n:
        raise Unsuitable("the real set's `present` and `label` must have an entry an ECG")
    patient = arrays.get("patient", np.full(n, ""))
    return RealSet(
        np.ascontiguousarray(data.transpose(0, 2, 1), dtype=np.float32),
        float(arrays["fs"]),
        [tuple(str(codes).split()) for codes in arrays["present"]],
        [_SUBSTRATE.get(int(label)) for label in arrays["label"]],
        [str(one) for one in patient],
        hashlib.sha256(content).hexdigest(),
    )


def source_of(card: GeneratorCard) -> str:
    return f"{card.name} {card.version}"


def gather(
    plan: Plan,
    generators: Mapping[str, Generator],
    real: RealSet | None,
    made: Callable[[int], object] = lambda n: None,
) -> list[Ecg]:
    """The study's ECGs, in an order of the seed that says nothing of their sources.

    Args:
        made: told how many more there are.
    Raises:
        Unsuitable: the real set or the generators do not have what the plan asks for.
    """
    preparation = common_preparation(generators)
    ecgs: list[Ecg] = []
    if plan.real:
        if real is None:
            raise Unsuitable("real ECGs are asked for, and no set is given that has them")
        ecgs += _real(plan, real, preparation)
        made(len(ecgs))
    for number, name in enumerate(plan.generated):
        for one in _generated(plan, generators[name], number):
            ecgs.append(one)
            made(1)
    order = np.random.default_rng((plan.seed, 1)).permutation(len(ecgs))
    return [ecgs[i] for i in order]


def common_preparation(generators: Mapping[str, Generator]) -> Preparation:
    """Errors: Unsuitable where they have different ones, or could not be told apart."""
    sources = [source_of(one.card) for one in generators.values()]
    if len(set(sources)) < len(sources):
        raise Unsuitable(f"two of the generators are the same one, {sources[0]}: name each once")
    found = {one.card.preparation for one in generators.values()}
    if len(found) > 1:
        raise Unsuitable("the generators were trained on different preparations: one study each")
    return next(iter(found), Preparation())


def usable(sig: np.ndarray, fs: float, preparation: Preparation) -> np.ndarray | None:
    """mV [8, n_samples] of a real ECG [12, time], resampled and not yet prepared; None where a lead
    or a part of the time is missing or too poor."""
    segments = cut(Record(sig, fs, LEADS), preparation)
    if segments.n_valid[0] < preparation.n_samples or not segments.lead_mask[0].all():
        return None
    return segments.sig[0]


def prepared(sig: np.ndarray, preparation: Preparation) -> np.ndarray:
    """float16 mV [n, 8, n_samples] of as many at the preparation's fs."""
    ready = condition(sig, np.full(len(sig), sig.shape[-1]), preparation)
    return (ready * np.float32(preparation.scale_mv)).astype(np.float16)


def _real(plan: Plan, real: RealSet, preparation: Preparation) -> Iterator[Ecg]:
    """ECGs of different rows, and of different patients where the set tells them."""
    order = np.random.default_rng((plan.seed, 0)).permutation(len(real.sig)).tolist()
    taken: set[str] = set()
    for label, n in shares(plan.labels, plan.real).items():
        for row in list(order):
            if not n:
                break
            patient = real.patient[row]
            if patient in taken or not has(label, real.present[row], real.substrate[row]):
                continue
            sig = usable(real.sig[row], real.fs, preparation)
            if sig is None:
                continue
            order.remove(row)
            taken |= {patient} - {""}
            n -= 1
            digest = hashlib.sha256(real.sig[row].astype("<f4").tobytes()).hexdigest()
            origin = {
                "sha256": digest,
                "patient": patient,
                "present": list(real.present[row]),
                "substrate": real.substrate[row],
            }
            yield Ecg(REAL, label, origin, prepared(sig[None], preparation)[0])
        if n:
            raise Unsuitable(
                f"the real set lacks {n} usable ECGs of other patients that show {label}: take a "
                "larger one, fewer real ECGs, or another mix of labels"
            )


def _generated(plan: Plan, generator: Generator, number: int) -> Iterator[Ecg]:
    """The rows of a seed of the study's and the generator's place in it."""
    card = generator.card
    (n,) = (n for i, n in enumerate(plan.generated.values()) if i == number)
    claimed = [label for label, k in shares(plan.labels, n).items() for _ in range(k)]
    for label in plan.labels:
        if unknown := set(labels_of(label).statements) - set(card.statements):
            raise Unsuitable(f"{source_of(card)} does not cover {sorted(unknown)[0]}")
    seed = int(np.random.SeedSequence((plan.seed, 2, number)).generate_state(1, np.uint32)[0])
    for start in range(0, n, MAKE_AT_ONCE):
        rows = range(start, min(start + MAKE_AT_ONCE, n))
        asked = [labels_of(claimed[row]) for row in rows]
        sig = generate(generator, asked, rows, seed)
        if not np.isfinite(sig).all():
            raise Unsuitable(f"{source_of(card)} made an ECG whose samples are no numbers")
        # as it comes: whether it is an ECG at all is the raters' to say
        for row, labels, one in zip(rows, asked, prepared(sig, card.preparation), strict=True):
            origin = {"sha256": card.sha256, "seed": seed, "row": row, "labels": asdict(labels)}
            yield Ecg(source_of(card), claimed[row], origin, one)


def packed(sig: np.ndarray) -> bytes:
    """float16 [8, n_samples] as it is stored: not compressed, since how well it compresses tells
    something of its source, in the size of what is read and the time that it takes."""
    return zlib.compress(np.ascontiguousarray(sig, dtype="<f2").tobytes(), 0)


def unpacked(content: bytes) -> np.ndarray:
    """float16 mV [8, n_samples]."""
    return np.frombuffer(zlib.decompress(content), dtype="<f2").reshape(8, -1)


def described(
    generators: Sequence[Generator], real: RealSet | None, preparation: Preparation
) -> dict[str, Any]:
    """What a study's ECGs were made with, to be kept with it."""
    cards = [one.card for one in generators]
    return {
        "generators": [
            {"source": source_of(c), "sha256": c.sha256, "decoder_sha256": c.decoder_sha256}
            for c in cards
        ],
        "real_set_sha256": real.sha256 if real else None,
        "preparation": asdict(preparation),
    }


def in_json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))
