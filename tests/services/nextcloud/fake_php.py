"""A `php` that knows our scripts' words to occ, and keeps state and calls in a JSON file."""

import fcntl
import json
import os
import sys
from pathlib import Path
from typing import Any

STATE = Path(os.environ["FAKE_STATE"])


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def main(words: list[str]) -> int:
    script, *rest = Path(words[0]).name, *words[1:]
    if script == "mounts.php":  # reads a pipe, while the php that fills it is still there
        say("\n".join(str(one["mount_id"]) for one in json.load(sys.stdin)))
        return 0
    if script == "-r":
        say("\n".join(one["user_id"] for one in json.load(sys.stdin)))
        return 0
    rest = [word for word in rest if word != "--no-interaction"]
    with STATE.open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        state: dict[str, Any] = json.load(file)
        state["calls"].append(" ".join([script, *rest]))
        code = act(state, script, rest)
        file.seek(0)
        file.truncate()
        json.dump(state, file)
    return code


def act(state: dict[str, Any], script: str, rest: list[str]) -> int:
    if script == "installed.php":
        return 0 if state["installed"] else 1
    if script == "install.php":
        state["installed"] = state["installs"]
        return 0 if state["installs"] else 1
    return occ(state, rest[0], rest[1:])


def occ(state: dict[str, Any], verb: str, rest: list[str]) -> int:
    if verb in state["broken"]:
        say(f"\n  In Some.php line 3: {verb} is broken\n")
        return 1
    if verb.startswith("user:"):
        return user(state, verb, rest)
    answers = {
        "status": {key: state[key] for key in ("installed", "maintenance", "needsDbUpgrade")},
        "group:list": state["groups"],
        "app:list": {"enabled": dict.fromkeys(state["apps"], "1")},
        "files_external:list": state["mounts"],
    }
    if verb in answers:
        say(json.dumps(answers[verb], separators=(",", ":")))
    change(state, verb, rest)
    return 0


def change(state: dict[str, Any], verb: str, rest: list[str]) -> None:
    if verb == "upgrade":
        state["needsDbUpgrade"] = False
    elif verb == "group:add":
        state["groups"][rest[0]] = []
    elif verb == "app:disable":
        state["apps"] = [app for app in state["apps"] if app not in rest]
    elif verb == "files_external:create":
        state["mounts"].append({"mount_id": 1, "mount_point": rest[0]})


def user(state: dict[str, Any], verb: str, rest: list[str]) -> int:
    people: dict[str, str] = state["people"]
    if verb == "user:list":
        say(json.dumps([{"user_id": name} for name in people]))
    elif verb == "user:info":
        return 0 if rest[0] in people else 1
    elif verb == "user:delete":
        del people[rest[0]]
    elif "--password-from-env" in rest:
        if len(os.environ["OC_PASS"]) < 10:
            say("Password needs to be at least 10 characters long.\n#0 trace of PHP")
            return 1
        people[rest[-1]] = os.environ["OC_PASS"]
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
