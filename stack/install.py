"""Makes the Python environments: with uv where it can be had, else with pip; side by side.

Run by `make setup` (through setup_env.py) with the machine's own python3, standard library only.
Doing it again costs nothing when nothing changed; what was left half-made is made anew.
"""

import argparse
import fcntl
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from stack import console
from stack.environments import CONSTRAINTS, STAMP, USUAL, Checkout, Environment
from stack.errors import StackError
from stack.install_tool import SetupError, Tool, answers, find_tool, pinned, sees_gpu, tail

UNFINISHED = ".labloop-unfinished"  # in an environment while it is being made
LOOK_EVERY_S = 0.3
LAST_LINES = 15
# An index answers in a second; one that cannot be reached must not cost minutes.
QUESTION_S = 20.0
QUESTION = {"UV_HTTP_TIMEOUT": "5", "UV_HTTP_CONNECT_TIMEOUT": "5", "UV_HTTP_RETRIES": "0"}


def run(arguments: Sequence[str]) -> int:
    """`make setup` and `labloop setup`; the exit code."""
    parser = argparse.ArgumentParser(prog="labloop setup", description=__doc__)
    parser.add_argument("--force", action="store_true", help="make them anew from nothing")
    parser.add_argument(
        "--with", dest="extra", action="append", default=[], metavar="ENV", help="label-studio-ml"
    )
    parser.add_argument("--only", metavar="ENV", help="this one alone, e.g. control")
    args = parser.parse_args(arguments)
    try:
        names = [args.only] if args.only else [*USUAL, *args.extra]
        set_up(Checkout(), names, force=args.force)
    except StackError as error:
        console.complain(str(error), error.hint)
        return error.exit_code
    except KeyboardInterrupt:
        console.complain("interrupted", "Run it again; what is half-made is made anew.")
        return 130
    return 0


def set_up(checkout: Checkout, names: Sequence[str], *, force: bool = False) -> None:
    """Make or repair the environments of these names.

    Raises:
        SetupError: one of them could not be made.
    """
    environments = [checkout.environment(name) for name in dict.fromkeys(names)]
    if not force and all(checkout.is_ready(one) for one in environments):
        console.say("the environments are up to date")
        return
    begun = time.monotonic()
    with only_setup(checkout.root):
        # Another setup may have done it while this one waited.
        left = [one for one in environments if force or not checkout.is_ready(one)]
        tool = find_tool(checkout)
        has_gpu = sees_gpu()
        jobs = [Job(checkout, one, tool, has_gpu, force) for one in left]
        _side_by_side(jobs)
    for job in jobs:
        console.say(f"  {job.environment.folder}: {job.summary}")
    console.say(f"the environments are ready ({time.monotonic() - begun:.0f} s)")


@contextmanager
def only_setup(root: Path) -> Iterator[None]:
    """One setup at a time; a second one waits."""
    folder = root / ".envs"
    folder.mkdir(exist_ok=True)
    with (folder / ".lock").open("a") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            console.say("another setup is at work in this folder; waiting for it …")
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield


# --- one environment ----------------------------------------------------------------------------


class Job(threading.Thread):
    """Makes one environment, in a thread that mostly waits for uv."""

    def __init__(
        self, checkout: Checkout, environment: Environment, tool: Tool, has_gpu: bool, force: bool
    ) -> None:
        super().__init__(name=environment.name, daemon=True)
        self.checkout, self.environment = checkout, environment
        self.tool, self.has_gpu, self.force = tool, has_gpu, force
        self.folder = checkout.folder(environment)
        self.interpreter = checkout.interpreter(environment)
        self.log = checkout.root / ".envs" / f"setup-{environment.name}.log"
        self.log.write_text("", encoding="utf-8")
        self.detail = "starts"
        self.summary = ""
        self.error: Exception | None = None
        self.process: subprocess.Popen[str] | None = None
        self.is_stopped = False

    def run(self) -> None:
        try:
            self._make()
        except (OSError, StackError) as error:
            self.error = error

    def _make(self) -> None:
        begun = time.monotonic()
        if self.force or not self._is_usable():
            shutil.rmtree(self.folder, ignore_errors=True)
            self._do("making it", self.tool.make(self.folder))
        (self.folder / UNFINISHED).touch()
        (self.folder / STAMP).unlink(missing_ok=True)
        limits = ("-c", str(CONSTRAINTS))
        if self.environment.needs_torch and not self.has_gpu:
            self._install_cpu_torch(limits)
        alone = self.environment.without_dependencies
        if alone:
            self._install("installing packages", "--no-deps", *limits, *alone)
        wanted = self.checkout.requirements(self.environment)
        self._install("installing packages", *limits, *wanted)
        if self.environment.finish:
            program = [str(self.interpreter), *self.environment.finish]
            self._do("preparing its database", program)
        (self.folder / UNFINISHED).unlink()
        stamp = self.checkout.stamp(self.environment)
        (self.folder / STAMP).write_text(stamp + "\n", encoding="utf-8")
        self.summary = f"ready after {time.monotonic() - begun:.0f} s"
        if self.environment.needs_torch:
            self.summary += f", {self._torch()}"
            if self.has_gpu and "+cpu" in self._torch():
                self.summary += " ALTHOUGH THERE IS A GPU: your own indexes offer the CPU build"

    def _is_usable(self) -> bool:
        """Whether what is there can be built upon: whole, and made of the same Python."""
        version = ".".join(map(str, self.checkout.python[:2]))
        question = "import sys; print('%d.%d' % sys.version_info[:2])"
        unfinished = (self.folder / UNFINISHED).exists()
        return not unfinished and answers([str(self.interpreter), "-c", question], version)

    def _install_cpu_torch(self, limits: Sequence[str]) -> None:
        """PyTorch without its gigabytes of CUDA, from wherever it can be had."""
        version = pinned("torch", self.checkout)
        if self._torch() == f"torch {version}+cpu":
            return
        alone = ("--no-deps", *limits)
        sources = [("your own indexes", (*alone, f"torch=={version}+cpu"))]
        if self.tool.uv:  # which knows where PyTorch's own index is
            own = (*alone, "--torch-backend", "cpu", f"torch=={version}")
            sources.append(("PyTorch's own index", own))
        for where, words in sources:
            ask = self.tool.install(self.interpreter, *words, "--dry-run")
            if self._try(f"looking for PyTorch's CPU build on {where}", ask, QUESTION, QUESTION_S):
                self._install("installing PyTorch's CPU build (200 MB)", *words)
                return
        console.warn(
            "PyTorch's CPU build cannot be had from here: neither your own indexes nor PyTorch's "
            "have it. Going on with the usual build, which brings CUDA along: 3 GB to download. "
            "To spare that, put the +cpu wheel into a folder and name it in PIP_FIND_LINKS."
        )

    def _torch(self) -> str:
        packages = self.folder.glob("lib/python*/site-packages/torch-*.dist-info")
        found = [
            path.name.removesuffix(".dist-info").replace("torch-", "torch ") for path in packages
        ]
        return found[0] if found else "no torch"

    def _install(self, detail: str, *words: str) -> None:
        self._do(detail, self.tool.install(self.interpreter, *words))

    def _do(self, detail: str, command: list[str]) -> None:
        if not self._try(detail, command):
            words = tail(self.log.read_text(encoding="utf-8"), LAST_LINES)
            raise SetupError(f"{self.environment.folder}: {detail} failed:\n{words}")

    def _try(
        self,
        detail: str,
        command: list[str],
        variables: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
    ) -> bool:
        if self.is_stopped:
            raise SetupError(f"{self.environment.folder}: interrupted")
        self.detail = detail
        environment = {**self.tool.variables, **(variables or {})}
        # An environment that happens to be active must not be mistaken for the one meant.
        environment.pop("VIRTUAL_ENV", None)
        with self.log.open("a", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.checkout.root,
                env=environment,
                text=True,
            )
        try:
            return self.process.wait(timeout_s) == 0
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return False

    def stop(self) -> None:
        """End the program that is at work, and start no other."""
        self.is_stopped = True
        if self.process is not None:
            with suppress(ProcessLookupError):
                self.process.kill()
            self.process.wait()

    def progress(self) -> str:
        """What it is doing: the step, and the last word of the program that does it."""
        words = tail(self.log.read_text(encoding="utf-8", errors="replace"), 1)[:50]
        return f"{self.environment.folder} {self.detail}" + (f" ({words.strip()})" if words else "")


def _side_by_side(jobs: Sequence[Job]) -> None:
    """Run the jobs at the same time and show how far they are.

    Raises:
        SetupError: one of them failed; the others were left to finish.
    """
    for job in jobs:
        usual = job.environment.usual
        console.say(f"making {job.environment.folder} (usually {usual}; log: {job.log})")
        job.start()
    progress = console.Progress("installing")
    try:
        while any(job.is_alive() for job in jobs):
            progress.tell("; ".join(job.progress() for job in jobs if job.is_alive()))
            time.sleep(LOOK_EVERY_S)
    except KeyboardInterrupt:
        for job in jobs:
            job.stop()
        raise
    failed = [job.error for job in jobs if job.error is not None]
    progress.finish("failed" if failed else "done")
    if failed:
        raise failed[0] if len(failed) == 1 else SetupError("\n".join(map(str, failed)))
