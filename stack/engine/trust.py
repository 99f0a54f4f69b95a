"""The lab's certificate authority: where people get its certificate, and what it must look like."""

import hashlib
import ssl

from stack.engine.engine import Engine, EngineError
from stack.engine.lab import Lab

ROOT_CERTIFICATE = "/data/caddy/pki/authorities/local/root.crt"
INTERVAL = 2  # hex digits between two colons


def authority(lab: Lab) -> list[tuple[str, str]]:
    """Lines for people; none where the lab brought its own certificate."""
    settings = lab.settings
    if settings.tls_certificate is not None:
        return [("certificate", f"the lab's own, {settings.tls_certificate}")]
    found = fingerprint(lab)
    if found is None:
        return [("certificate", "not made yet; `labloop status` says how the gateway is")]
    port = settings.ports["GATEWAY_HTTP_PORT"]
    host = settings.lab_domain or settings.lab_host
    address = f"http://{host}" + ("" if port == 80 else f":{port}") + "/ca.crt"
    return [
        ("certificate", f"{address}: install it once on every machine, after a look at its"),
        ("", f"SHA-256 {found}"),
    ]


def fingerprint(lab: Lab) -> str | None:
    """SHA-256 of the gateway's root certificate, as browsers show it; None before it is made."""
    with Engine.connected() as engine:
        gateway = [
            one for one in engine.containers(lab.compose.project) if one.service == "gateway"
        ]
        try:
            text = engine.read_file(gateway[0].name, ROOT_CERTIFICATE).decode("ascii")
        except (IndexError, EngineError):
            return None
    digits = hashlib.sha256(ssl.PEM_cert_to_DER_cert(text)).hexdigest().upper()
    return ":".join(digits[at : at + INTERVAL] for at in range(0, len(digits), INTERVAL))
