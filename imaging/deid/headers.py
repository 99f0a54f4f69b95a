"""What a case record may tell from DICOM headers: a list of what is allowed, each value checked.

`deidentify` says what must go; this says what may come. Nothing else of a header reaches case.json,
so a scanner that writes a name where a kernel belongs cannot bring it there.
"""

import math
import re
from collections.abc import Callable, Sequence
from functools import partial

from pydicom import Dataset
from pydicom.config import disable_value_validation

from imaging.deid.dates import earlier_date
from imaging.deid.identity import days_earlier, patient_of, remapped_uid
from imaging.deid.profile import is_harmless, telling_words, values_of

Check = Callable[[Sequence[str]], str]
NUMBERS = (
    "KVP", "RepetitionTime", "EchoTime", "InversionTime", "FlipAngle", "EchoTrainLength",
    "MagneticFieldStrength", "SliceThickness", "SpacingBetweenSlices", "ReconstructionDiameter",
    "GantryDetectorTilt",
)  # fmt: skip
UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")
MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._/+-]{0,39}", re.ASCII)
KERNEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._/+-]{0,15}", re.ASCII)
TEXTS = {"ManufacturerModelName": MODEL, "ConvolutionKernel": KERNEL}
# Defined terms of the standard, and nothing beside them (PS3.3 C.7.3.1.1.1, C.8.3, C.8.13).
MODALITIES = """CR CT DX ES IO IVOCT MG MR NM OCT OP OPT PT PX RF RG SC SM US XA XC OT"""
POSITIONS = """HFP HFS HFDR HFDL FFDR FFDL FFP FFS LFP LFS RFP RFS"""
KINDS = """ORIGINAL DERIVED PRIMARY SECONDARY AXIAL LOCALIZER REFORMATTED MPR M P R I NONE"""
# PS3.16 Annex L: words for parts of the body, as headers carry them.
BODY_PARTS = """ABDOMEN ABDOMENPELVIS ADRENAL ANKLE AORTA ARM AXILLA BACK BLADDER BRAIN BREAST
    BRONCHUS BUTTOCK CALCANEUS CALF CAROTID CEREBELLUM CERVIX CHEEK CHEST CHESTABDOMEN
    CHESTABDPELVIS CLAVICLE COCCYX COLON CORNEA CORONARYARTERY CSPINE CTSPINE DUODENUM EAR
    ELBOW ESOPHAGUS
    EXTREMITY EYE EYELID FACE FEMUR FINGER FOOT FOREARM GALLBLADDER HAND HEAD HEADNECK HEART HIP
    HUMERUS ILEUM ILIUM IAC JAW JEJUNUM KIDNEY KNEE LARYNX LEG LIVER LSPINE LSSPINE LUNG MAXILLA
    MEDIASTINUM MOUTH NECK NECKCHEST NECKCHESTABDOMEN NECKCHESTABDPELV NOSE ORBIT OVARY PANCREAS
    PAROTID PATELLA PELVIS PENIS PHARYNX PROSTATE RECTUM RIB SACRUM SCALP SCAPULA SCLERA SCROTUM
    SHOULDER SIJOINT SKULL SPINE SPLEEN SSPINE STERNUM STOMACH SUBMANDIBULAR TESTIS THIGH THUMB
    THYMUS THYROID TIBIA TIBIAFIBULA TLSPINE TMJ TOE TONGUE TRACHEA TSPINE UTERUS VAGINA VULVA
    WHOLEBODY WRIST ZYGOMA"""
TERMS = {
    "Modality": MODALITIES,
    "ImageType": KINDS,
    "BodyPartExamined": BODY_PARTS,
    "Laterality": "L R",
    "PatientPosition": POSITIONS,
    "MRAcquisitionType": "2D 3D",
    "ScanningSequence": "SE IR GR EP RM",
    "SequenceVariant": "SK MTC SS TRSS SP MP OSP TOF NONE",
}
# Makers as headers spell them → one name each. Others are not told: hospitals write themselves in.
MAKERS = {
    "SIEMENS": "Siemens", "GE ": "GE", "GENERAL ELECTRIC": "GE", "PHILIPS": "Philips",
    "TOSHIBA": "Canon", "CANON": "Canon", "HITACHI": "Fujifilm", "FUJI": "Fujifilm",
    "SHIMADZU": "Shimadzu", "UIH": "United Imaging", "UNITED IMAGING": "United Imaging",
    "NEUSOFT": "Neusoft", "MINDRAY": "Mindray", "HOLOGIC": "Hologic", "ESAOTE": "Esaote",
    "BRUKER": "Bruker", "PICKER": "Picker", "MARCONI": "Marconi", "ELSCINT": "Elscint",
}  # fmt: skip
NO_CONTRAST = frozenset({"", "NO", "NONE", "N", "WITHOUT", "0"})


def safe_headers(headers: Sequence[Dataset], secret: str) -> dict[str, str]:
    """What case.json may hold of a series: keyword of the standard → value, in its order below.

    Args:
        headers: of all files of one series, with or without pixels, in any order.
        secret: the lab's pseudonym key.

    Returns:
        The study date, moved back as `deidentify` does, and UIDs, replaced as it does; Modality,
        BodyPartExamined and other words of the standard; Manufacturer (one of the known ones),
        ManufacturerModelName, ConvolutionKernel; numbers of the acquisition; ContrastBolus (`yes`
        or `no`). Left out is what the headers do not say, what is not of its kind, and what
        differs from file to file. Empty without headers.
    """
    if not headers:
        return {}
    with disable_value_validation():
        words = telling_words(headers[0])
        said = _dates_and_uids(headers[0], secret)
        for keyword, check in _checks(words).items():
            values = {check(_texts(header, keyword)) for header in headers}
            if len(values) == 1 and (value := values.pop()):
                said[keyword] = value
        agents = [_texts(header, "ContrastBolusAgent") for header in headers]
        if any(agents):
            told = {text.strip().upper() for texts in agents for text in texts}
            said["ContrastBolus"] = "no" if told <= NO_CONTRAST else "yes"
    return said


def _dates_and_uids(header: Dataset, secret: str) -> dict[str, str]:
    days = days_earlier(secret, patient_of(header))
    said = {
        "StudyDate": "".join(earlier_date(text, days) for text in _texts(header, "StudyDate")[:1])
    }
    for keyword in UIDS:
        said[keyword] = "".join(remapped_uid(secret, text) for text in _texts(header, keyword)[:1])
    return {keyword: value for keyword, value in said.items() if value}


def _checks(words: frozenset[str]) -> dict[str, Check]:
    """For each keyword what makes a text of its values that may be told, or "" if there is none."""
    checks: dict[str, Check] = {
        keyword: partial(_of, frozenset(terms.split())) for keyword, terms in TERMS.items()
    }
    checks["Manufacturer"] = _maker
    for keyword, pattern in TEXTS.items():
        checks[keyword] = partial(_matching, pattern, words)
    return checks | dict.fromkeys(NUMBERS, _number)


def _texts(header: Dataset, keyword: str) -> list[str]:
    """The values of an element as texts; enhanced objects keep many in shared functional groups."""
    try:
        if keyword in header:
            return [str(value).strip(" \0") for value in values_of(header[keyword])]
        groups = header.get("SharedFunctionalGroupsSequence") or []
        for group in groups[:1]:
            for element in group:
                for item in element.value if element.VR == "SQ" else ():
                    if keyword in item:
                        return _texts(item, keyword)
    except (ValueError, TypeError, KeyError, AttributeError, NotImplementedError):
        pass  # a value that is not of its type is none
    return []


def _of(terms: frozenset[str], texts: Sequence[str]) -> str:
    upper = [text.upper().replace(" ", "").replace("_", "") for text in texts]
    known = [text for text in upper if text in terms]
    return " ".join(known) if known and len(known) == len(upper) else ""


def _matching(pattern: re.Pattern[str], words: frozenset[str], texts: Sequence[str]) -> str:
    if not texts or not all(pattern.fullmatch(text) and is_harmless(text, words) for text in texts):
        return ""
    return " ".join(texts)


def _number(texts: Sequence[str]) -> str:
    try:
        numbers = [float(text) for text in texts]
    except ValueError:
        return ""
    if not numbers or len(numbers) > 4 or not all(math.isfinite(n) for n in numbers):
        return ""
    return " ".join(f"{n:.6g}" for n in numbers)


def _maker(texts: Sequence[str]) -> str:
    upper = f"{texts[0].upper()} " if texts else ""
    return next((name for start, name in MAKERS.items() if upper.startswith(start)), "")
