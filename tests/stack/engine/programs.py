"""A program that stands in for `docker`: answers as a test says, and keeps the calls."""

import stat
from pathlib import Path

from stack.engine.docker_call import Docker


def fake_docker(folder: Path, script: str) -> Docker:
    """`script` is the body of a shell program; `$*` are the words."""
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / "docker"
    program.write_text(f'#!/bin/sh\necho "$*" >>{folder}/calls\n{script}\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return Docker(program=str(program))


def calls(folder: Path) -> list[str]:
    file = folder / "calls"
    return file.read_text().splitlines() if file.is_file() else []
