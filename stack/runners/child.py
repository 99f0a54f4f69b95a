"""One service as a child process: start it, see it end, end it with all that it started."""

import logging
import os
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from imaging.ids import utc_now
from stack.compose import Service
from stack.errors import NotInstalledError
from stack.home import Home
from stack.logs import last_lines
from stack.plan import REMEMBER_S, RUNNING, Deaths, State, after_death
from stack.processes import end_marked, marks, tied_to_parent
from stack.state import ServiceStatus

log = logging.getLogger(__name__)

LAST_LINES = 8  # of a dead service's log, for the admin who asks why
# What a service inherits beyond its settings. All else must stand in compose.yaml, so that a
# stack does not depend on the shell it was started from.
INHERITED = ("HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "LD_LIBRARY_PATH")
INHERITED_PREFIXES = ("LC_", "SSL_CERT_", "CUDA_", "NVIDIA_", "OMP_", "MKL_", "PYTORCH_")


@dataclass(frozen=True, slots=True)
class Launch:
    """A service whose variables are filled in, and where its programs lie."""

    service: Service
    programs: Path  # the bin folder of its environment
    folder: Path  # where it runs: that of compose.yaml
    port: int | None = None

    @property
    def name(self) -> str:
        return self.service.name

    @property
    def program(self) -> Path:
        """The executable: one of the environment's, or whatever path the command gives.

        Raises:
            NotInstalledError: it is not there.
        """
        word = self.service.local.command[0]
        path = self.folder / word if "/" in word else self.programs / word
        if not os.access(path, os.X_OK):
            raise NotInstalledError(f"{self.name} needs {path}, which is not there")
        return path

    def environment(self, home: Home, inherited: Mapping[str, str]) -> dict[str, str]:
        """The whole environment of the process."""
        kept = {
            key: value
            for key, value in inherited.items()
            if key in INHERITED or key.startswith(INHERITED_PREFIXES)
        }
        path = f"{self.programs}{os.pathsep}{inherited.get('PATH', os.defpath)}"
        given = cast(Mapping[str, str], self.service.environment)  # filled in: none is None
        return {**kept, "PATH": path, **given, **marks(home.root, self.name)}


class Child:
    """The process of one service through all its lives."""

    def __init__(self, launch: Launch, home: Home, inherited: Mapping[str, str]) -> None:
        self.launch = launch
        self.home = home
        self.inherited = inherited
        self.process: subprocess.Popen[bytes] | None = None
        self.state: State = "waiting"
        self.reason = ""
        self.since: str | None = None
        self.started_s = 0.0
        self.retry_at_s: float | None = None  # set while it waits to be started again
        self.deaths = Deaths()
        self.is_failing = False  # judged at its last death
        self.last_death = ""
        self.last_lines: tuple[str, ...] = ()
        self._log_start = 0

    @property
    def name(self) -> str:
        return self.launch.name

    @property
    def log_file(self) -> Path:
        return self.home.log(self.name)

    def status(self, now_s: float) -> ServiceStatus:
        deaths = self.deaths.within(REMEMBER_S, now_s)
        return ServiceStatus(
            name=self.name,
            state=self.state,
            pid=self.process.pid if self.process else None,
            since=self.since if self.process else None,
            port=self.launch.port,
            url=self.launch.service.local.url,
            login=self.launch.service.local.login,
            reason=self.reason,
            deaths=deaths,
            last_death=self.last_death if deaths else "",
            last_lines=self.last_lines,
        )

    def start(self, now_s: float) -> None:
        """Begin a life. A program that cannot be started counts as one that died at once."""
        self.retry_at_s, self.started_s = None, now_s
        for probe in self.launch.service.local.health.probes:
            if probe.kind == "heartbeat":  # the last life's must not speak for this one
                Path(probe.target).unlink(missing_ok=True)
        try:
            self.process = self._spawn()
        except (OSError, NotInstalledError) as error:
            self._died(now_s, f"cannot be started: {error}", exit_code=127)
            return
        self.state, self.reason, self.since = "starting", "", utc_now()
        log.info("%s started as process %d", self.name, self.process.pid)

    def _spawn(self) -> subprocess.Popen[bytes]:
        command = [str(self.launch.program), *self.launch.service.local.command[1:]]
        with self.log_file.open("ab") as stream:
            stream.write(f"--- {utc_now()} {self.name} starts\n".encode())
            stream.flush()
            self._log_start = stream.tell()
            return subprocess.Popen(
                tied_to_parent(command),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                cwd=self.launch.folder,
                env=self.launch.environment(self.home, self.inherited),
                start_new_session=True,  # a Ctrl-C in the terminal is the supervisor's to handle
            )

    def reap(self, now_s: float) -> None:
        """Notice that the process has ended, and end what it has left behind."""
        if self.process is None or (exit_code := self.process.poll()) is None:
            return
        self.process = None
        end_marked(self.home.root, self.name)
        if self.state == "stopping":
            self.state, self.reason = "stopped", ""
            log.info("%s stopped", self.name)
        else:
            self._died(now_s, _how_it_ended(exit_code), exit_code)

    def _died(self, now_s: float, how: str, exit_code: int) -> None:
        lived_s = now_s - self.started_s
        retry = after_death(self.deaths, now_s=now_s, lived_s=lived_s, exit_code=exit_code)
        was_failing = self.is_failing
        self.is_failing = retry.failing
        self.deaths, self.retry_at_s = retry.deaths, now_s + retry.pause_s
        self.last_lines = tuple(last_lines(self.log_file, LAST_LINES, self._log_start))
        self.state = "failing" if retry.failing else "restarting"
        self.last_death = f"{how} after {lived_s:.0f} s"
        self.reason = f"{self.last_death}; starts again in {retry.pause_s:.0f} s"
        if retry.failing and not was_failing:
            words = " | ".join(self.last_lines)
            log.error("%s %s; its last words: %s", self.name, self.reason, words)
        elif not retry.failing:  # a service that keeps failing has been reported once
            log.warning("%s %s", self.name, self.reason)

    def heed(self, answer: str | None, now_s: float) -> None:
        """Take in what the health check said; None when it has not been asked."""
        if self.state not in RUNNING or answer is None:
            return
        young = now_s - self.started_s < self.launch.service.local.health.start_s
        if answer and young and self.state == "starting":
            self.reason = answer
            return
        state: State = "unhealthy" if answer else "healthy"
        if state != self.state:
            level = logging.WARNING if answer else logging.INFO
            log.log(level, "%s became %s%s", self.name, state, f": {answer}" if answer else "")
        self.state, self.reason = state, answer

    def stop(self) -> None:
        """Ask it to finish; `reap` notices when it has."""
        self.retry_at_s = None
        if self.process is None:
            self.state, self.reason = "stopped", ""
            return
        self.state, self.reason = "stopping", ""
        with suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it now, with everything it has started."""
        if self.process is not None:
            end_marked(self.home.root, self.name)
            if self.process.poll() is None:  # reading from a share that hangs, for instance
                log.error("%s hangs in the kernel and could not be ended", self.name)


def _how_it_ended(exit_code: int) -> str:
    if exit_code >= 0:
        return f"ended with exit code {exit_code}"
    return f"was ended by {signal.Signals(-exit_code).name}"
