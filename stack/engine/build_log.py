"""Reads what BuildKit says while it builds (`--progress plain`): where it is, and why it failed."""

import re
from collections import deque
from dataclasses import dataclass, field

STEP = re.compile(r"^#(\d+) \[(.*?) *(\d+/\d+)\] (.+)$")  # [ingest stage-1  5/13], [2/2]
LINE = re.compile(r"^#(\d+) (?:[\d.]+ )?(.*)$")
RAISED = re.compile(r"(?:failed to solve: |^#\d+ ERROR: )(.+)$")
# The whole command stands in it, which may be long, and is shown as the step already.
ENDED = re.compile(r"process .* did not complete successfully: exit code: (\d+)")
LAST_LINES = 12
STEP_LENGTH = 70
ADVICE = (
    # What the log says, in small letters → what helps.
    ("no space left on device", "Free disk: `docker builder prune`, `labloop images --prune`."),
    (
        "certificate verify|certificate is not trusted|issuer cert|self.signed|x509",
        "A proxy that opens TLS? Set CA_BUNDLE to a file with its certificate authority.",
    ),
    (
        "name resolution|could not resolve|unable to resolve|no such host|dns error|failed to fetch"
        "|connect|network is unreachable|timed out",
        "Packages are fetched while building. Set PIP_CONFIG to a pip.conf with your mirror, "
        "WHEELS to a folder of packages, or BUILD_NETWORK=host where only this machine sees one.",
    ),
    (
        "was found on no index",
        "Set PIP_CONFIG to a pip.conf with your indexes, or WHEELS to a folder with the wheels.",
    ),
    (
        "none could be fetched",
        "Set BASE_IMAGE or DEEPO_IMAGE to a base with Python 3.11 or newer (`labloop deepo` makes "
        "one), or UV_PYTHON_INSTALL_MIRROR.",
    ),
)
USUAL_ADVICE = "docs/images.md says what a build may be given."


@dataclass
class BuildLog:
    """A build's lines so far."""

    steps: dict[str, str] = field(default_factory=dict)  # number → "ingest 3/9: RUN …"
    lines: dict[str, deque[str]] = field(default_factory=dict)  # number → its last lines
    failed: str = ""  # number of the step that failed
    reason: str = ""

    def read(self, line: str) -> str:
        """Take one line; a short word about where the build is, when it enters a step."""
        step = STEP.match(line)
        if step is not None:
            number, where, part, words = step.groups()
            service = where.split(" ")[0]
            text = f"{service} {part}: {words}".lstrip()
            is_new = self.steps.get(number) != text
            self.steps[number] = text
            return _short(text) if is_new else ""
        self._remember(line)
        return ""

    def _remember(self, line: str) -> None:
        raised = RAISED.search(line)
        match = LINE.match(line)
        if raised is not None:
            self.reason = ENDED.sub(r"exit code \1", raised[1])
            if match is not None and not self.failed:
                self.failed = match[1]
        elif match is not None and match[2].strip():
            self.lines.setdefault(match[1], deque(maxlen=LAST_LINES)).append(match[2].rstrip())

    @property
    def step(self) -> str:
        """The step that failed, e.g. `ingest 5/9: RUN python3 …`; empty when none is known."""
        return _short(self.steps.get(self.failed, ""))

    @property
    def last_lines(self) -> list[str]:
        return list(self.lines.get(self.failed, ()))

    @property
    def advice(self) -> str:
        """What to do about the failure, as far as its words tell."""
        said = "\n".join([*self.last_lines, self.reason]).lower()
        return next((words for cause, words in ADVICE if re.search(cause, said)), USUAL_ADVICE)


def _short(text: str) -> str:
    # Mounts come first in our steps and tell nothing.
    words = re.sub(r"--mount=\S+\s*", "", text)
    return words if len(words) <= STEP_LENGTH else words[: STEP_LENGTH - 1] + "…"
