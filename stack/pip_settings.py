"""The user's pip configuration, as uv understands it: a lab's mirror and certificates count.

uv does not read pip's files or PIP_* variables. `pip config list` prints both, merged.
Images are built with this module too, by whatever Python their base has: no newer than 3.8.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping

# Later ones win, as in pip: general settings, those of `pip install`, the environment's.
SECTIONS = ("global", "install", ":env:")
WORDS = {  # pip's name → uv's variable; several values are put together with the last entry
    "index-url": ("UV_DEFAULT_INDEX", " "),
    "extra-index-url": ("UV_INDEX", " "),
    "find-links": ("UV_FIND_LINKS", ","),
    "cert": ("SSL_CERT_FILE", " "),
    "client-cert": ("SSL_CLIENT_CERT", " "),
    "trusted-host": ("UV_INSECURE_HOST", " "),
    "proxy": ("ALL_PROXY", " "),
}


def parse_pip_config(text: str) -> dict[str, str]:
    """Option → value, from what `pip config list` printed."""
    found: dict[str, dict[str, str]] = {section: {} for section in SECTIONS}
    for line in text.splitlines():
        key, _, quoted = line.partition("=")
        section, _, option = key.strip().partition(".")
        if section in found:
            try:
                found[section][option] = str(ast.literal_eval(quoted.strip()))
            except (SyntaxError, ValueError):
                continue  # not a line of that form
    merged: dict[str, str] = {}
    for section in SECTIONS:
        merged.update(found[section])
    return merged


def uv_variables(pip: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    """The environment for uv; what the user has set for uv itself stays.

    Args:
        pip: option → value of pip's configuration.
        given: the present environment.
    """
    variables = {
        name: joint.join(pip[option].split())
        for option, (name, joint) in WORDS.items()
        if pip.get(option, "").strip()
    }
    # pip takes the best version of all indexes, uv by default the first index that has any.
    variables["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    # The interpreter that runs the setup is the one to use; none is fetched from anywhere.
    variables["UV_PYTHON_DOWNLOADS"] = "never"
    return {**variables, **given}


def uv_options(pip: Mapping[str, str]) -> list[str]:
    """What uv takes on its command line only."""
    return ["--no-index"] if pip.get("no-index", "").lower() in ("1", "true", "yes", "on") else []
