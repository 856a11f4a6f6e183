"""The SCP-ECG statements that SNOMED CT has, too."""

SNOMED = "http://snomed.info/sct"

# Where SNOMED CT has the same meaning, and not one that is wider or narrower: an absence is stated
# too. Codes as in the mapping of the PhysioNet/CinC Challenges 2020 and 2021, which have PTB-XL;
# a normal ECG's as in DICOM's CID 3677. The atrial enlargements' are those of that mapping, which
# has no code for the overload.
SNOMED_CODES = {
    "AFIB": ("164889003", "Atrial fibrillation"),
    "AFLT": ("164890007", "Atrial flutter"),
    "LAO/LAE": ("67741000119109", "Left atrial enlargement"),
    "RAO/RAE": ("446358003", "Right atrial hypertrophy"),
    "NORM": ("164854000", "Normal ECG"),
    "SR": ("426783006", "Sinus rhythm"),
    "STACH": ("427084000", "Sinus tachycardia"),
    "SBRAD": ("426177001", "Sinus bradycardia"),
    "SARRH": ("427393009", "Sinus arrhythmia"),
    "SVTAC": ("426761007", "Supraventricular tachycardia"),
    "PSVT": ("67198005", "Paroxysmal supraventricular tachycardia"),
    "1AVB": ("270492004", "First degree atrioventricular block"),
    "2AVB": ("195042002", "Second degree atrioventricular block"),
    "3AVB": ("27885002", "Complete atrioventricular block"),
    "CLBBB": ("733534002", "Complete left bundle branch block"),
    "CRBBB": ("713427006", "Complete right bundle branch block"),
    "ILBBB": ("251120003", "Incomplete left bundle branch block"),
    "IRBBB": ("713426002", "Incomplete right bundle branch block"),
    "LAFB": ("445118002", "Left anterior fascicular block"),
    "LPFB": ("445211001", "Left posterior fascicular block"),
    "IVCD": ("698252002", "Nonspecific intraventricular conduction disorder"),
    "LVH": ("164873001", "Left ventricular hypertrophy"),
    "RVH": ("89792004", "Right ventricular hypertrophy"),
    "PAC": ("284470004", "Premature atrial contraction"),
    "PVC": ("427172004", "Premature ventricular contraction"),
    "LPR": ("164947007", "Prolonged PR interval"),
    "LNGQT": ("111975006", "Prolonged QT interval"),
    "INVT": ("59931005", "Inverted T wave"),
    "TAB_": ("164934002", "T wave abnormal"),
    "ABQRS": ("164951009", "Abnormal QRS"),
}
