"""What stands for a patient: a keyed hash that nobody without the lab's key can trace back."""

import hashlib
import hmac
import unicodedata


def pseudonym(key: str, patient: str) -> str:
    """`p-<12 hex digits>`: the same patient always, unreadable without the lab's secret key."""
    return f"p-{keyed(key, spelled(patient)).hex()[:12]}"


def spelled(text: str) -> bytes:
    """One spelling for one text: Macs decompose letters (ö as o and ¨), other systems do not."""
    return unicodedata.normalize("NFC", text).encode("utf-8", "surrogateescape")


def keyed(key: str, message: bytes) -> bytes:
    """32 bytes that follow from a message for whoever has the key, and for nobody else."""
    return hmac.digest(key.encode(), message, hashlib.sha256)
