"""The twelve leads: names, order, and the limb leads that follow exactly from others.

Einthoven: III = II - I. Goldberger: aVR = -(I + II) / 2, aVL = I - II / 2, aVF = II - I / 2.
Any two of the six limb leads therefore give the other four (derived, never estimated).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

LIMB_LEADS = ("I", "II", "III", "aVR", "aVL", "aVF")
CHEST_LEADS = ("V1", "V2", "V3", "V4", "V5", "V6")
LEADS = LIMB_LEADS + CHEST_LEADS
INDEPENDENT_LEADS = ("I", "II", *CHEST_LEADS)

# Each limb lead as a combination of I and II; rows in the order of LIMB_LEADS.
LIMB_FROM_I_II = np.array(
    [[1.0, 0.0], [0.0, 1.0], [-1.0, 1.0], [-0.5, -0.5], [1.0, -0.5], [-0.5, 1.0]]
)

_CANONICAL = {name.upper(): name for name in LEADS}
_PREFIXES = (
    "MDC_ECG_LEAD_",
    "MDC_ECG_ELEC_POTL_",
    "ECG LEAD ",
    "EKG LEAD ",
    "ECG ",
    "EKG ",
    "LEAD ",
)

# ISO/IEEE 11073-10101: a lead's identifier (MDC_ECG_LEAD_*) and the electric potential along it
# (MDC_ECG_ELEC_POTL_*) are terms of partition 2; a code is 65536 x partition + term. 131137 is
# aVR turned round, and no lead of these.
_MDC_PARTITION = 2 * 65_536
MDC_TERMS: dict[str, int] = dict(zip(LEADS, (1, 2, 61, 62, 63, 64, 3, 4, 5, 6, 7, 8), strict=True))
MDC_LEAD_IDS = {name: _MDC_PARTITION + term for name, term in MDC_TERMS.items()}
MDC_POTENTIALS = {name: code + 256 for name, code in MDC_LEAD_IDS.items()}
_OF_MDC = {code: name for codes in (MDC_LEAD_IDS, MDC_POTENTIALS) for name, code in codes.items()}


def canonical(name: str) -> str | None:
    """The lead's usual spelling, whatever the case or prefix (`AVR`, `Lead ii`), or None."""
    key = name.strip().upper()
    for prefix in _PREFIXES:
        key = key.removeprefix(prefix)
    return _CANONICAL.get(key)


def lead_of_mdc(code: str) -> str | None:
    """The lead of an MDC code of either family: `131329`, or partition and term as DICOM writes
    them, `2:257`. None for any other code."""
    partition, colon, term = code.strip().rpartition(":")
    if not (term.isascii() and term.isdigit() and len(term) <= 9):
        return None
    if colon and partition != "2":
        return None
    return _OF_MDC.get(int(term) + (_MDC_PARTITION if colon else 0))


def complete_leads(
    sig: np.ndarray, leads: Sequence[str], usable: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """All twelve leads that are given or follow exactly from the usable ones.

    Args:
        sig: mV, [lead, time]; leads: canonical names of its rows; usable: rows to trust.
    Returns:
        mV [12, time] in the order of LEADS, zero where unknown, and known [12], bool.
    """
    rows = {name: sig[i] for i, name in enumerate(leads) if usable is None or usable[i]}
    full = np.zeros((len(LEADS), sig.shape[1]), dtype=sig.dtype)
    known = np.array([name in rows for name in LEADS])
    for i, name in enumerate(LEADS):
        if name in rows:
            full[i] = rows[name]
    if not known[:6].all():
        pair = next((p for p in combinations(range(6), 2) if known[p[0]] and known[p[1]]), None)
        if pair is not None:
            from_pair = LIMB_FROM_I_II @ np.linalg.inv(LIMB_FROM_I_II[list(pair)])
            missing = np.flatnonzero(~known[:6])
            full[missing] = (from_pair[missing] @ full[list(pair)]).astype(sig.dtype)
            known[:6] = True
    return full, known


_INDEPENDENT_ROWS = [LEADS.index(name) for name in INDEPENDENT_LEADS]


def independent_leads(
    sig: np.ndarray, leads: Sequence[str], usable: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The eight leads that models see, of many segments.

    Args:
        sig: mV [segment, lead, time]; leads: canonical names of the rows; usable: rows to trust,
            [segment, lead], bool.
    Returns:
        mV [segment, 8, time], zero where unknown, and known [segment, 8], bool.
    """
    if usable.all() and set(INDEPENDENT_LEADS) <= set(leads):  # the usual case: nothing to derive
        rows = [leads.index(name) for name in INDEPENDENT_LEADS]
        return sig[:, rows], np.ones((len(sig), len(rows)), dtype=bool)
    full, known = zip(
        *(complete_leads(one, leads, rows) for one, rows in zip(sig, usable, strict=True)),
        strict=True,
    )
    return np.stack(full)[:, _INDEPENDENT_ROWS], np.stack(known)[:, _INDEPENDENT_ROWS]
