"""Tells a person what the demo does: the step, what is happening in it, how long it should take."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from stack.errors import StackError

Found = TypeVar("Found")
LOOK_EVERY_S = 0.5
SPEAK_EVERY_S = 5.0  # on a terminal that is a file; the line says something new each time


class DemoError(StackError):
    """The loop did not turn. The message says at which step."""

    hint = "`labloop status` and `labloop logs SERVICE` with the demo's --home say more."


@dataclass(slots=True)
class Narrator:
    """Prints steps with their time; `write` is how a line gets to the person."""

    write: Callable[[str], None]
    started: float = field(default_factory=time.monotonic)

    def say(self, text: str) -> None:
        """One line, with the minutes and seconds since the demo began."""
        minutes, seconds = divmod(int(time.monotonic() - self.started), 60)
        self.write(f"[{minutes:2d}:{seconds:02d}] {text}")

    def wait(
        self,
        what: str,
        look: Callable[[], Found | None],
        *,
        expect_s: float,
        limit_s: float,
        detail: Callable[[], str] = str,
    ) -> Found:
        """Look again and again until `look` finds something; say what is going on meanwhile.

        Args:
            what: the step, for people.
            look: returns None as long as there is nothing to be found.
            expect_s: how long it usually takes, told to the person.
            limit_s: after this long the step has failed.
            detail: what is happening right now, in a few words.

        Raises:
            DemoError: nothing was found within the limit.
        """
        self.say(f"{what} … (about {expect_s:.0f} s)")
        begun = spoken = time.monotonic()
        last = ""
        while True:
            found = look()
            if found is not None:
                return found
            now = time.monotonic()
            if now - begun > limit_s:
                raise DemoError(f"{what}: not done after {limit_s:.0f} s; {detail()}")
            if now - spoken > SPEAK_EVERY_S:
                text = detail()
                if text and text != last:
                    self.say(f"    {text}")
                    last = text
                spoken = now
            time.sleep(LOOK_EVERY_S)
