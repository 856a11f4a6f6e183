"""The words that go with a published set: its README, and its data card.

(After Gebru et al. 2021, Datasheets for Datasets, doi 10.1145/3458723.)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ecg.card import GeneratorCard, Metric
from ecg.generated import NOTE, implied
from ecg.labels import Labels
from ecg.leads import LEADS
from ecg.statements import ATRIAL_STATEMENTS, STATEMENTS
from training.publishing.generated_set import GeneratedSet

NOT_FOR = (
    "Diagnosis, triage or treatment of patients; anything that presents a generated ECG as a "
    "patient's; testing a model for use on patients, which takes real ECGs."
)


@dataclass(frozen=True)
class Check:
    """How near copies are told from strangers: `bound`, the least distance of `strangers`, those
    of the ECGs of n_held_out records of patients whom the generator never saw."""

    bound: float
    strangers: np.ndarray
    n_training: int
    n_held_out: int
    sources: tuple[str, ...]


@dataclass(frozen=True)
class Facts:
    """A set as it is published: labels, rows of the given set and distances, an entry an ECG, and
    the distances of those left out."""

    card: GeneratorCard
    given: GeneratedSet
    version: str
    licence: str
    labels: list[Labels]
    rows: np.ndarray
    distance: np.ndarray
    dropped: np.ndarray
    check: Check


def readme(facts: Facts, n_prints: int) -> str:
    n_samples = facts.card.n_samples
    prints = f"| `prints/` | {n_prints} of them as clinical prints, PNG |\n" if n_prints else ""
    return f"""# Synthetic twelve-lead ECGs {facts.version}

{_what(facts)} {NOTE.capitalize()}. For research; not for the care of patients.
What they are, how they were made and what they are not for stands in [DATA_CARD.md](DATA_CARD.md).

| file | what |
|---|---|
| `ecgs.npz` | `data` float32 mV [n, time, lead], `label` (0 normal, 1 abnormal, -1 not given), \
`fs`, `leads`, `seed`; `asked` [n, code] of `codes` (1 present, 0 absent, -1 not given), `age`, \
`sex` (0 male, 1 female), `heart_rate`; `distance`, see the card |
| `ecgs.csv` | no header; a row an ECG: {n_samples} x {len(LEADS)} values in mV, time by time, \
then the label |
| `labels.csv` | a row an ECG, in the same order: what it was asked to be, and its WFDB record |
| `RECORDS`, `wfdb/` | the same as WFDB records, format 16, 1 uV a unit |
{prints}| `SHA256SUMS` | check with `sha256sum -c SHA256SUMS` |

```python
import numpy as np
ecgs = np.load("ecgs.npz")
sig, label, fs = ecgs["data"], ecgs["label"], float(ecgs["fs"])  # sig[i, :, 1] is lead II
```

## Licence
{facts.licence}. Name the source: ECG-LDM, `{facts.card.name}` {facts.card.version}, and what it \
learned from:
{_list(f"{d.citation} ({d.licence})" for d in facts.card.training_data)}
"""


def data_card(facts: Facts) -> str:
    card, given = facts.card, facts.given
    interval = " to ".join(f"{sigma:g}" for sigma in card.diffusion.guidance_interval)
    d = card.diffusion
    return f"""# Data card: synthetic twelve-lead ECGs {facts.version}

{_what(facts)}

## How it was made
| | |
|---|---|
| generator | {card.name} {card.version}: {card.architecture}; {card.n_parameters:,} parameters |
| sha256 of the denoiser | `{card.sha256}` |
| sha256 of the decoder | `{card.decoder_sha256}` |
| sampler | DPM-Solver++(2M), {given.num_steps} steps, sigma {d.sigma_max:g} to {d.sigma_min:g}, \
rho {d.rho:g} |
| guidance | scale {given.guidance_scale:g} at sigma {interval} |
| seed | {given.seed}; `row` of `ecgs.npz` is the ECG's number under it |
| signal | {len(LEADS)} leads ({", ".join(LEADS)}), {card.n_samples} samples at {given.fs:g} Hz, \
mV; {_band(card)} |
| limb leads | III, aVR, aVL and aVF follow from I and II by Einthoven's and Goldberger's laws |

## Labels
{_origin(given)} They say what was asked for, which the ECG need not be; how often it is \
stands below. Atrial substrate "abnormal" is an open proxy: any of {", ".join(ATRIAL_STATEMENTS)}.

{_distribution(facts.labels, card.statements)}

## No ECG of the training set
{_check(facts)}

## Measured of the generator
{_metrics(card.metrics)}

## Intended use
{card.intended_use}

## Not for
{NOT_FOR} The generator's card adds: {card.not_for}

## Limitations
{_list(card.limitations)}
- The generator knows what its training data knows: one population, its devices and its errors of \
labelling. Figures on generated ECGs are no figures on patients.
- The check finds copies of an ECG as a whole; a single beat that recurs among another's is not \
searched for.

## Licences and sources
The ECGs: {facts.licence}. The generator's weights: {card.licence}. It learned from:

| data | records | licence | cite |
|---|---|---|---|
{_rows((d.name, f"{d.records:,}", d.licence, d.citation) for d in card.training_data)}
"""


def _what(facts: Facts) -> str:
    n, card = len(facts.labels), facts.card
    seconds = card.n_samples / card.fs
    return (
        f"{n:,} electrocardiograms of {seconds:g} s, twelve leads, {card.fs:g} Hz, made by the "
        f"generator {card.name} {card.version} from seed {facts.given.seed}."
    )


def _band(card: GeneratorCard) -> str:
    highpass = card.preparation.highpass_hz
    return f"high-passed at {highpass:g} Hz" if highpass else "not high-passed"


def _origin(given: GeneratedSet) -> str:
    if given.from_records:
        return (
            "Each ECG was asked to have the labels of a real training record (statements, age, "
            "sex, heart rate); nothing else of the record is in it."
        )
    return "The labels were chosen for the whole set, and alternate where there are several."


def _distribution(labels: Sequence[Labels], codes: Sequence[str]) -> str:
    n = len(labels)
    substrates = Counter(implied(x) or "not given" for x in labels)
    sexes = Counter(x.sex or "not given" for x in labels)
    present = Counter(code for x in labels for code in x.statements)
    rows = [(f"atrial substrate: {name}", k) for name, k in sorted(substrates.items())]
    rows += [(f"sex: {name}", k) for name, k in sorted(sexes.items())]
    rows += [
        (f"{code}: {STATEMENTS[code].description}", present[code])
        for code in codes
        if present[code]
    ]
    ranges = [
        _range("age, years", [x.age for x in labels]),
        _range("heart rate, beats a minute", [x.heart_rate for x in labels]),
    ]
    table = _rows((name, f"{k:,}", f"{k / n:.1%}") for name, k in rows)
    return f"| asked for | ECGs | share |\n|---|---|---|\n{table}\n\n{_list(ranges)}"


def _range(name: str, values: Sequence[float | None]) -> str:
    known = np.array([v for v in values if v is not None])
    if not len(known):
        return f"{name}: not given"
    low, middle, high = np.quantile(known, (0, 0.5, 1))
    return f"{name}: {low:.0f} to {high:.0f}, median {middle:.0f}, of {len(known):,} ECGs"


def _check(facts: Facts) -> str:
    check, distance, dropped = facts.check, facts.distance, facts.dropped
    out = f"{len(dropped):,} were nearer and are left out." if len(dropped) else "None was nearer."
    theirs, ours = (np.quantile(x, (0, 0.01, 0.5)) for x in (check.strangers, distance))
    return f"""Every ECG was compared with all {check.n_training:,} training records of the \
generator ({", ".join(check.sources)}): the distance is 1 less the highest correlation at any \
shift in time under which half of both overlap, over all leads together, at any gain, in the band \
of 0.5 to 25 Hz. 0 is a copy.

The bound is {check.bound:.4f}, the nearest that any of {check.n_held_out:,} real records of \
patients whom the generator never saw (fold 9) comes to a training record. {out}

| distance to the nearest training record | least | 1% quantile | median |
|---|---|---|---|
| real records of other patients | {theirs[0]:.4f} | {theirs[1]:.4f} | {theirs[2]:.4f} |
| this set | {ours[0]:.4f} | {ours[1]:.4f} | {ours[2]:.4f} |"""


def _metrics(metrics: Sequence[Metric]) -> str:
    if not metrics:
        return "The generator's card holds no figures."
    rows = ((m.name, f"{m.value:.3f}", _interval(m), m.n, m.data, m.leads) for m in metrics)
    return (
        "From the generator's card, at its own default settings; intervals are 95%, by bootstrap."
        "\n\n| figure | value | interval | n | data | leads |\n|---|---|---|---|---|---|\n"
    ) + _rows(rows)


def _interval(m: Metric) -> str:
    return f"{m.interval[0]:.3f} to {m.interval[1]:.3f}" if m.interval else ""


def _rows(rows: Iterable[Sequence[object]]) -> str:
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in rows)


def _list(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)
