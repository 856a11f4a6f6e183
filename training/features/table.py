"""The features by name: unit and meaning. Amplitudes are those of the median beat."""

from __future__ import annotations

from ecg.leads import INDEPENDENT_LEADS

SINGLE = {
    "heart_rate": ("1/min", "from the median RR interval"),
    "rr_mean": ("ms", "mean RR interval"),
    "rr_sdnn": ("ms", "standard deviation of RR intervals"),
    "rr_rmssd": ("ms", "root mean square of differences of successive RR intervals"),
    "rr_pnn50": ("1", "share of successive RR intervals that differ by more than 50 ms"),
    "rr_cv": ("1", "standard deviation of RR intervals over their mean"),
    "rr_sampen": ("1", "sample entropy of RR intervals, order 1, tolerance 0.2 deviations"),
    "rr_range": ("1", "longest RR interval over the shortest"),
    "rr_premature": ("1", "share of RR intervals below 0.8 of the median"),
    "beat_coherence": ("1", "mean correlation of beats with the median beat, all leads"),
    "odd_beats": ("1", "share of beats that correlate with the median beat by less than 0.8"),
    "p_share": ("1", "share of beats with a P wave: what precedes them is like its median"),
    "p_coherence": ("1", "mean correlation of what precedes beats with its median"),
    "p_duration": ("ms", "P onset to P offset"),
    "pr": ("ms", "P onset to QRS onset"),
    "qrs": ("ms", "QRS onset to QRS offset"),
    "qt": ("ms", "QRS onset to T offset"),
    "qtc": ("ms", "QT over the cube root of RR in seconds (Fridericia)"),
    "qrs_axis": ("degrees", "frontal axis of the QRS area"),
    "t_axis": ("degrees", "frontal axis of the T wave"),
    "sokolow_lyon": ("mV", "depth of S in V1 and the higher R of V5 and V6"),
    "cornell": ("mV", "R in aVL and depth of S in V3"),
    "r_time_V1": ("ms", "QRS onset to the highest point in V1"),
    "r_time_V6": ("ms", "QRS onset to the highest point in V6"),
    "f_energy": ("uV", "RMS at 4-9 Hz of what the median beat leaves, rhythm lead"),
    "f_energy_V1": ("uV", "the same in V1"),
    "f_share": ("1", "share of 4-9 Hz in what the median beat leaves, rhythm lead"),
    "f_share_V1": ("1", "the same in V1"),
    "spectrum_low": ("1", "share of 0.5-5 Hz in the power from 0.5 to 40 Hz, rhythm lead"),
    "spectrum_middle": ("1", "share of 5-15 Hz"),
    "spectrum_high": ("1", "share of 15-40 Hz"),
    "quality": ("1", "mean correlation of rhythm-lead beats with their template (NeuroKit2)"),
    "noise": ("uV", "RMS above 30 Hz outside QRS complexes, rhythm lead"),
    "wander": ("uV", "RMS below 1 Hz, rhythm lead"),
}
PER_LEAD = {
    "q": "lowest point of the QRS complex before its highest",
    "r": "highest point of the QRS complex",
    "s": "lowest point of the QRS complex after its highest",
    "terminal": "mean of the last 40 ms of the QRS complex",
    "st": "60 ms after the QRS complex",
    "t": "furthest point from the baseline in the T wave",
    "p": "furthest point from the baseline before the QRS complex",
}
FEATURES = SINGLE | {
    f"{name}_{lead}": ("mV", f"{said}, {lead}")
    for lead in INDEPENDENT_LEADS
    for name, said in PER_LEAD.items()
}
NAMES = tuple(FEATURES)
