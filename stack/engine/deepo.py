"""`labloop deepo`: a current base for the trainer, composed by deepo's own generator.

deepo's published images stop at Python 3.8 and CUDA 11.3. Its generator (github.com/ufoym/deepo,
fetched at a pinned commit into .cache/deepo; nothing of it is ours) writes a Dockerfile for other
versions. Where that predates what Ubuntu and NVIDIA publish today, `adapted` changes a line of it;
each change is listed there with its reason, and refuses to guess when the line is not found.
"""

import hashlib
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from stack import console
from stack.engine.build_log import BuildLog
from stack.engine.docker_call import Docker, DockerFailedError
from stack.engine.images import MissingImageError, failure
from stack.engine.registry import PREFIX, mirrored
from stack.environments import ROOT
from stack.errors import StackError, UsageError
from stack.settings import inherited_environment

REPOSITORY = "https://github.com/ufoym/deepo"
COMMIT = "eeb36f9c32860cc782fae53911272db650ed700c"  # 2026-03-25
CACHE = ROOT / ".cache" / "deepo"
GIT_LIMIT_S = 600.0
NAMES = ("modules", "cuda", "cudnn", "ubuntu", "python", "commit", "repository", "get_pip", "base")
VERSION = re.compile(r"\d+(\.\d+)*")
# From this Ubuntu on, pip leaves the system's Python alone unless told otherwise.
MANAGED_SINCE = (23, 4)
# distutils left Python with this version.
NO_DISTUTILS_SINCE = (3, 12)


class DeepoError(StackError):
    """deepo's generator could not be fetched or run, or its Dockerfile is not as expected."""

    hint = "docs/images.md lists the settings DEEPO_…; DEEPO_IMAGE may name any other base."


@dataclass(frozen=True, slots=True)
class DeepoWishes:
    """What to compose. Every field is explained in docs/images.md."""

    modules: str = "python"  # torch comes with the trainer, for no base to compile
    cuda: str = "13.0.2"  # "none": no CUDA
    cudnn: str = "none"  # torch brings its own; "8": NVIDIA's old names, "yes": today's
    ubuntu: str = "24.04"
    python: str = "3.12"  # of that Ubuntu
    commit: str = COMMIT
    repository: str = REPOSITORY
    get_pip: str = ""  # URL of get-pip.py, or "apt"; empty: the generator's own
    base: str = ""  # in place of NVIDIA's or Ubuntu's image

    @classmethod
    def from_settings(cls, settings: Mapping[str, str]) -> "DeepoWishes":
        """Read DEEPO_…; what is not set has its default.

        Raises:
            UsageError: one of them cannot be used; all are listed.
        """
        words = {name: settings.get(f"DEEPO_{name.upper()}", "").strip() for name in NAMES}
        wishes = replace(cls(), **{name: word for name, word in words.items() if word})
        problems = wishes.problems()
        if problems:
            raise UsageError("; ".join(problems), hint=DeepoError.hint)
        if wishes.base:
            return wishes
        base = f"docker.io/{_usual_base(wishes)}"
        prefix = settings.get(PREFIX, "").strip().rstrip("/")
        return replace(wishes, base=mirrored(base, prefix) if prefix else base)

    @property
    def composed(self) -> tuple[str, ...]:
        """The modules as the generator is asked for them: with the version of Python.

        Nearly all need Python, and without a word about it the generator takes 3.8.
        """
        names = self.modules.replace(",", " ").split()
        if set(names) != {"tools"} and not any(one.partition("==")[0] == "python" for one in names):
            names = ["python", *names]
        return tuple(f"python=={self.python}" if one == "python" else one for one in names)

    def problems(self) -> list[str]:
        """What cannot be used, for people."""
        found = [
            f"DEEPO_{name.upper()} is {value!r}, expected a version"
            for name, value, others in (
                ("cuda", self.cuda, ("none",)),
                ("cudnn", self.cudnn, ("none", "yes")),
                ("ubuntu", self.ubuntu, ()),
                ("python", self.python, ()),
            )
            if not VERSION.fullmatch(value) and value not in others
        ]
        if not re.fullmatch(r"[0-9a-f]{40}", self.commit):
            found.append(f"DEEPO_COMMIT is {self.commit!r}, expected 40 hexadecimal digits")
        if self.get_pip not in ("", "apt") and not re.fullmatch(
            r"https?://[\w./:~+-]+", self.get_pip
        ):
            found.append(f"DEEPO_GET_PIP is {self.get_pip!r}, expected a URL or `apt`")
        wrong = [name for name in self.composed if not re.fullmatch(r"[a-z0-9]+(==[\w.]+)?", name)]
        found += [f"DEEPO_MODULES has {name!r}, expected a module's name" for name in wrong]
        return found


def _usual_base(wishes: DeepoWishes) -> str:
    """The image that NVIDIA or Ubuntu publishes for these versions."""
    if wishes.cuda == "none":
        return f"library/ubuntu:{wishes.ubuntu}"
    # With CUDA 12.3, NVIDIA dropped the version from the names: cudnn8 became cudnn.
    cudnn = {"none": "", "yes": "-cudnn"}.get(wishes.cudnn, f"-cudnn{wishes.cudnn}")
    return f"nvidia/cuda:{wishes.cuda}{cudnn}-devel-ubuntu{wishes.ubuntu}"


# --- the generator ------------------------------------------------------------------------------


def compose_dockerfile(wishes: DeepoWishes, cache: Path = CACHE) -> Path:
    """Fetch the generator, run it, adapt what it wrote; the Dockerfile's path.

    Raises:
        DeepoError: one of these failed.
    """
    generator = fetched(wishes.repository, wishes.commit, cache / "source") / "generator"
    raw = cache / "Dockerfile.generated"
    raw.unlink(missing_ok=True)
    _run([sys.executable, "generate.py", str(raw), *generator_words(wishes)], generator)
    text = adapted(raw.read_text(encoding="utf-8"), wishes)
    folder = cache / tag_of(wishes, text)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "Dockerfile"
    file.write_text(text, encoding="utf-8")
    return file


def generator_words(wishes: DeepoWishes) -> list[str]:
    """What the generator is asked for, by its own options."""
    words = [*wishes.composed, "--ubuntu-ver", wishes.ubuntu]
    words += [] if wishes.cuda == "none" else ["--cuda-ver", wishes.cuda]
    return words if wishes.cudnn == "none" else [*words, "--cudnn-ver", wishes.cudnn]


def fetched(repository: str, commit: str, folder: Path) -> Path:
    """A checkout of exactly this commit; nothing is fetched when it is there.

    Raises:
        DeepoError: git or the commit is not to be had.
    """
    if shutil.which("git") is None:
        raise DeepoError("git is not there, and deepo's generator is fetched with it")
    if not (folder / ".git").is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        _run(["git", "init", "--quiet"], folder)
    if not _has_commit(folder, commit):
        console.say(f"fetching deepo {commit[:12]} from {repository} …")
        # The one commit, where the server gives it out by its number; else all there is.
        try:
            _run(["git", "fetch", "--quiet", "--depth", "1", repository, commit], folder)
        except DeepoError:
            _run(["git", "fetch", "--quiet", repository, "+refs/*:refs/fetched/*"], folder)
    _run(["git", "checkout", "--quiet", "--force", "--detach", commit], folder)
    return folder


def _has_commit(folder: Path, commit: str) -> bool:
    words = ["git", "cat-file", "-e", f"{commit}^{{commit}}"]
    return subprocess.run(words, cwd=folder, capture_output=True, check=False).returncode == 0


def _run(command: Sequence[str], folder: Path) -> None:
    try:
        answer = subprocess.run(
            command,
            cwd=folder,
            env={**inherited_environment(), "PYTHONDONTWRITEBYTECODE": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=GIT_LIMIT_S,
        )
    except subprocess.TimeoutExpired as error:
        raise DeepoError(f"{' '.join(command[:3])}: no end within {GIT_LIMIT_S:.0f} s") from error
    if answer.returncode != 0:
        words = " | ".join((answer.stderr or answer.stdout).strip().splitlines()[-5:])
        raise DeepoError(f"{' '.join(command[:3])} failed: {words}")


def adapted(dockerfile: str, wishes: DeepoWishes) -> str:
    """The generated Dockerfile, with the lines changed that do not hold today.

    1. FROM names the image with its registry, or DEEPO_BASE: the generator knows Docker Hub alone,
       and NVIDIA's image names from before CUDA 12.3.
    2. `python3`, too, is the Python that was asked for: the generator links `python` only, and our
       images are set up with `python3`.
    3. From Python 3.12 on, no package pythonX-distutils: there is none.
    4. From Ubuntu 23.04 on, pip may install beside the system's packages: else it refuses to.
    5. DEEPO_GET_PIP, when it is set, names another place for get-pip.py than bootstrap.pypa.io, or
       with `apt` Ubuntu's own package takes its place: mirrors of package indexes lack that file.
    6. A build may be given pip's settings and certificates, as our other builds are; wget trusts
       the same.

    Raises:
        DeepoError: a line that must be changed is not there.
    """
    text = _replaced(dockerfile, r"^FROM \S+$", f"FROM {wishes.base}")
    if f"python=={wishes.python}" in wishes.composed:
        link = rf"^( +)ln -s /usr/bin/python{re.escape(wishes.python)} /usr/local/bin/python &&"
        text = _replaced(
            text,
            link,
            rf"\g<0> \\\n\g<1>ln -sf /usr/bin/python{wishes.python} "
            r"/usr/local/bin/python3 &&",
        )
        if _numbers(wishes.python) >= NO_DISTUTILS_SINCE:
            line = rf"^ +python{re.escape(wishes.python)}-distutils \\\n"
            text = _replaced(text, line, "")
        text = _with_pip(text, wishes)
    environment = "ENV LANG C.UTF-8"
    if _numbers(wishes.ubuntu) >= MANAGED_SINCE:
        environment += "\nENV PIP_BREAK_SYSTEM_PACKAGES=1"
    text = _replaced(text, r"^ENV LANG C\.UTF-8$", environment)
    mounts = (
        "RUN --mount=type=secret,id=pip,target=/etc/pip.conf \\\\\n"
        "    --mount=type=secret,id=ca,target=/run/lab-ca.crt \\\\\n"
        "    if [ -s /run/lab-ca.crt ]; then export PIP_CERT=/run/lab-ca.crt "
        "SSL_CERT_FILE=/run/lab-ca.crt; \\\\\n"
        '        export WGETRC=/tmp/rc; echo "ca_certificate = $PIP_CERT" >$WGETRC; fi && \\\\\n'
        "    APT_INSTALL="
    )
    return _replaced(text, r"^RUN APT_INSTALL=", mounts)


def _with_pip(text: str, wishes: DeepoWishes) -> str:
    if not wishes.get_pip:
        return text
    url = r"https://bootstrap\.pypa\.io/get-pip\.py"
    if wishes.get_pip != "apt":
        return _replaced(text, url, wishes.get_pip)
    lines = rf"^( +)wget -O ~/get-pip\.py \\\n +{url} && \\\n +python\S+ ~/get-pip\.py &&"
    return _replaced(text, lines, r"\g<1>$APT_INSTALL python3-pip &&")


def _replaced(text: str, pattern: str, new: str) -> str:
    changed, count = re.subn(pattern, new, text, count=1, flags=re.MULTILINE)
    if count == 0:
        raise DeepoError(
            f"deepo's Dockerfile has no line like {pattern!r}, which has to be changed",
            hint="Another DEEPO_COMMIT may write it otherwise; the usual one is known to work.",
        )
    return changed


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def tag_of(wishes: DeepoWishes, text: str) -> str:
    """What it is made of, and a digest of the whole Dockerfile: `cu13.0.2-py3.12-1f2e3d4c`."""
    cuda = "cpu" if wishes.cuda == "none" else f"cu{wishes.cuda}"
    return f"{cuda}-py{wishes.python}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


# --- the image ----------------------------------------------------------------------------------


def build_deepo(
    wishes: DeepoWishes, settings: Mapping[str, str], log_file: Path, cache: Path = CACHE
) -> str:
    """Compose and build the base; its name, for DEEPO_IMAGE.

    Args:
        settings: PIP_CONFIG, CA_BUNDLE and BUILD_NETWORK are given to this build, too.
        log_file: takes the whole log.

    Raises:
        DeepoError: there is no Dockerfile.
        MissingImageError: the image it stands on cannot be had.
        BuildFailedError: a step failed; with its last words.
    """
    file = compose_dockerfile(wishes, cache)
    image = f"{settings.get('IMAGE_PREFIX') or 'labloop'}/deepo:{file.parent.name}"
    words = ["build", "--progress", "plain", "--tag", image, "--file", str(file)]
    for key, name in (("PIP_CONFIG", "pip"), ("CA_BUNDLE", "ca")):
        if settings.get(key):
            words += ["--secret", f"id={name},src={settings[key]}"]
    if settings.get("BUILD_NETWORK"):
        words += ["--network", settings["BUILD_NETWORK"]]
    log_file.parent.mkdir(parents=True, exist_ok=True)
    progress = console.Progress(f"building {image} FROM {wishes.base} (log: {log_file})")
    log = BuildLog()
    with log_file.open("w", encoding="utf-8") as stream:

        def look(line: str) -> None:
            stream.write(line + "\n")
            if step := log.read(line):
                progress.tell(step)

        try:
            Docker.here().stream(*words, str(file.parent), on_line=look)
        except DockerFailedError as error:
            progress.finish("failed")
            raise _failure(log, error.said, log_file, wishes) from error
    progress.finish()
    return image


def _failure(log: BuildLog, said: str, file: Path, wishes: DeepoWishes) -> StackError:
    if wishes.base in (log.reason or said):
        hint = "Set DEEPO_BASE to an image that can be pulled from here, or REGISTRY_PREFIX."
        return MissingImageError(f"the base {wishes.base}: {log.reason or said}", hint=hint)
    return failure(log, said, file)
