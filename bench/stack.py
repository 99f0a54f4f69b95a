"""How long the lab's stack in Docker takes to come up, when its images are there.

    python -m bench.stack --env-file FILE [--rounds N]

In one run: from nothing (databases made, migrations, first start) to healthy; again, with nothing
to do; down; up with everything there; and what `docker compose up --wait` takes to find that there
is nothing to do, which is what an admin would type instead. FILE names a STACK_NAME of its own:
the stack and its databases are destroyed afterwards.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from stack.engine.lab import open_lab
from stack.environments import ROOT
from stack.home import Home
from stack.settings import read_env_file


def labloop(home: Home, *words: str) -> None:
    command = [sys.executable, "-m", "stack.cli", *words, "--home", str(home.root)]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        sys.exit(f"labloop {' '.join(words)}: {answer.stdout}{answer.stderr}")


def took(act: Callable[[], object]) -> float:
    begun = time.monotonic()
    act()
    return time.monotonic() - begun


def measure(home: Home, env_file: Path, name: str) -> dict[str, float]:
    up = ("up", "--env-file", str(env_file))
    found = {"first up": took(lambda: labloop(home, *up))}
    found["up again"] = took(lambda: labloop(home, *up))
    compose = open_lab(home).compose
    words = ("up", "--detach", "--wait", "--no-build", "--pull", "never")
    found["docker compose up --wait, again"] = took(lambda: compose.run(*words))
    found["down"] = took(lambda: labloop(home, "down"))
    found["up after down"] = took(lambda: labloop(home, *up))
    found["destroy"] = took(lambda: labloop(home, "destroy", "--yes", name))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--env-file", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=1)
    args = parser.parse_args()
    name = read_env_file(args.env_file).get("STACK_NAME", "")
    if not name:
        parser.error("STACK_NAME is not set in the file, expected a name of its own")
    rounds = []
    for _ in range(args.rounds):
        with tempfile.TemporaryDirectory(prefix="bench-stack-") as folder:
            rounds.append(measure(Home(Path(folder) / "home"), args.env_file.absolute(), name))
    for what in rounds[0]:
        seconds = [one[what] for one in rounds]
        print(f"{what:<34} {statistics.median(seconds):6.1f} s  {[round(s, 1) for s in seconds]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
