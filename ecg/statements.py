"""The SCP-ECG statements of PTB-XL, and which of them make the atrial substrate abnormal.

Codes, wording, superclasses and kinds are those of PTB-XL 1.0.3, scp_statements.csv (Wagner et al.
2020, doi 10.1038/s41597-020-0495-6, CC BY 4.0).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Statement:
    """`superclass` is the diagnostic one (NORM, MI, STTC, CD, HYP) or None; `kinds` any of
    diagnostic, form, rhythm."""

    code: str
    description: str
    superclass: str | None
    kinds: tuple[str, ...]


_TABLE = (
    Statement("NDT", "non-diagnostic T abnormalities", "STTC", ("diagnostic", "form")),
    Statement("NST_", "non-specific ST changes", "STTC", ("diagnostic", "form")),
    Statement("DIG", "digitalis-effect", "STTC", ("diagnostic", "form")),
    Statement("LNGQT", "long QT-interval", "STTC", ("diagnostic", "form")),
    Statement("NORM", "normal ECG", "NORM", ("diagnostic",)),
    Statement("IMI", "inferior myocardial infarction", "MI", ("diagnostic",)),
    Statement("ASMI", "anteroseptal myocardial infarction", "MI", ("diagnostic",)),
    Statement("LVH", "left ventricular hypertrophy", "HYP", ("diagnostic",)),
    Statement("LAFB", "left anterior fascicular block", "CD", ("diagnostic",)),
    Statement("ISC_", "non-specific ischemic", "STTC", ("diagnostic",)),
    Statement("IRBBB", "incomplete right bundle branch block", "CD", ("diagnostic",)),
    Statement("1AVB", "first degree AV block", "CD", ("diagnostic",)),
    Statement(
        "IVCD",
        "non-specific intraventricular conduction disturbance (block)",
        "CD",
        ("diagnostic",),
    ),
    Statement("ISCAL", "ischemic in anterolateral leads", "STTC", ("diagnostic",)),
    Statement("CRBBB", "complete right bundle branch block", "CD", ("diagnostic",)),
    Statement("CLBBB", "complete left bundle branch block", "CD", ("diagnostic",)),
    Statement("ILMI", "inferolateral myocardial infarction", "MI", ("diagnostic",)),
    Statement("LAO/LAE", "left atrial overload/enlargement", "HYP", ("diagnostic",)),
    Statement("AMI", "anterior myocardial infarction", "MI", ("diagnostic",)),
    Statement("ALMI", "anterolateral myocardial infarction", "MI", ("diagnostic",)),
    Statement("ISCIN", "ischemic in inferior leads", "STTC", ("diagnostic",)),
    Statement("INJAS", "subendocardial injury in anteroseptal leads", "MI", ("diagnostic",)),
    Statement("LMI", "lateral myocardial infarction", "MI", ("diagnostic",)),
    Statement("ISCIL", "ischemic in inferolateral leads", "STTC", ("diagnostic",)),
    Statement("LPFB", "left posterior fascicular block", "CD", ("diagnostic",)),
    Statement("ISCAS", "ischemic in anteroseptal leads", "STTC", ("diagnostic",)),
    Statement("INJAL", "subendocardial injury in anterolateral leads", "MI", ("diagnostic",)),
    Statement("ISCLA", "ischemic in lateral leads", "STTC", ("diagnostic",)),
    Statement("RVH", "right ventricular hypertrophy", "HYP", ("diagnostic",)),
    Statement(
        "ANEUR", "ST-T changes compatible with ventricular aneurysm", "STTC", ("diagnostic",)
    ),
    Statement("RAO/RAE", "right atrial overload/enlargement", "HYP", ("diagnostic",)),
    Statement("EL", "electrolytic disturbance or drug (former EDIS)", "STTC", ("diagnostic",)),
    Statement("WPW", "Wolf-Parkinson-White syndrome", "CD", ("diagnostic",)),
    Statement("ILBBB", "incomplete left bundle branch block", "CD", ("diagnostic",)),
    Statement("IPLMI", "inferoposterolateral myocardial infarction", "MI", ("diagnostic",)),
    Statement("ISCAN", "ischemic in anterior leads", "STTC", ("diagnostic",)),
    Statement("IPMI", "inferoposterior myocardial infarction", "MI", ("diagnostic",)),
    Statement("SEHYP", "septal hypertrophy", "HYP", ("diagnostic",)),
    Statement("INJIN", "subendocardial injury in inferior leads", "MI", ("diagnostic",)),
    Statement("INJLA", "subendocardial injury in lateral leads", "MI", ("diagnostic",)),
    Statement("PMI", "posterior myocardial infarction", "MI", ("diagnostic",)),
    Statement("3AVB", "third degree AV block", "CD", ("diagnostic",)),
    Statement("INJIL", "subendocardial injury in inferolateral leads", "MI", ("diagnostic",)),
    Statement("2AVB", "second degree AV block", "CD", ("diagnostic",)),
    Statement("ABQRS", "abnormal QRS", None, ("form",)),
    Statement("PVC", "ventricular premature complex", None, ("form",)),
    Statement("STD_", "non-specific ST depression", None, ("form",)),
    Statement("VCLVH", "voltage criteria (QRS) for left ventricular hypertrophy", None, ("form",)),
    Statement("QWAVE", "Q waves present", None, ("form",)),
    Statement("LOWT", "low amplitude T-waves", None, ("form",)),
    Statement("NT_", "non-specific T-wave changes", None, ("form",)),
    Statement("PAC", "atrial premature complex", None, ("form",)),
    Statement("LPR", "prolonged PR interval", None, ("form",)),
    Statement("INVT", "inverted T-waves", None, ("form",)),
    Statement("LVOLT", "low QRS voltages in the frontal and horizontal leads", None, ("form",)),
    Statement("HVOLT", "high QRS voltage", None, ("form",)),
    Statement("TAB_", "T-wave abnormality", None, ("form",)),
    Statement("STE_", "non-specific ST elevation", None, ("form",)),
    Statement("PRC(S)", "premature complex(es)", None, ("form",)),
    Statement("SR", "sinus rhythm", None, ("rhythm",)),
    Statement("AFIB", "atrial fibrillation", None, ("rhythm",)),
    Statement("STACH", "sinus tachycardia", None, ("rhythm",)),
    Statement("SARRH", "sinus arrhythmia", None, ("rhythm",)),
    Statement("SBRAD", "sinus bradycardia", None, ("rhythm",)),
    Statement("PACE", "normal functioning artificial pacemaker", None, ("rhythm",)),
    Statement("SVARR", "supraventricular arrhythmia", None, ("rhythm",)),
    Statement("BIGU", "bigeminal pattern (unknown origin, SV or Ventricular)", None, ("rhythm",)),
    Statement("AFLT", "atrial flutter", None, ("rhythm",)),
    Statement("SVTAC", "supraventricular tachycardia", None, ("rhythm",)),
    Statement("PSVT", "paroxysmal supraventricular tachycardia", None, ("rhythm",)),
    Statement("TRIGU", "trigeminal pattern (unknown origin, SV or Ventricular)", None, ("rhythm",)),
)
STATEMENTS = {statement.code: statement for statement in _TABLE}

# An open proxy for the published labels, which are private (low-voltage areas by mapping).
ATRIAL_STATEMENTS = ("AFIB", "AFLT", "LAO/LAE", "RAO/RAE")


def atrial_substrate_abnormal(scp_codes: Iterable[str]) -> bool:
    """Abnormal = any of AFIB, AFLT, LAO/LAE, RAO/RAE. A code is present at any likelihood."""
    return not set(ATRIAL_STATEMENTS).isdisjoint(scp_codes)
