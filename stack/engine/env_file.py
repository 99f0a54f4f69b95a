"""The settings file of a lab: written once, from .env.example, then people's own."""

import re
import socket
from pathlib import Path

from imaging.publish import write_text
from stack.environments import ROOT

EXAMPLE = ROOT / ".env.example"
# TEST-NET-1: nobody's address. Asking the kernel which way it would go sends nothing.
NOWHERE = ("192.0.2.1", 9)


def ensure_env_file(path: Path, lab_host: str) -> bool:
    """Write the file unless it is there; whether it was written."""
    if path.exists():
        return False
    text = EXAMPLE.read_text(encoding="utf-8")
    line = f"LAB_HOST={lab_host}"
    text, count = re.subn(r"^#LAB_HOST=.*$", lambda _: line, text, count=1, flags=re.MULTILINE)
    write_text(path, text if count else f"{line}\n\n{text}")
    return True


def machine_address() -> str:
    """The address under which others reach this machine; its name where it has no network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(NOWHERE)
            return str(probe.getsockname()[0])
        except OSError:
            return socket.gethostname() or "localhost"
