"""`make setup`: the door to making the environments, run by whatever python3 there is.

Written so that an old Python can still read it and say that it is too old, or find a newer one.
The work is in environments.py (what is wanted) and install.py (how it is done).
"""

import os
import shutil
import sys

OLDEST = (3, 11)
NEWER = ("python3.13", "python3.12", "python3.11")


def main() -> int:
    """Make or repair the environments; the exit code."""
    if sys.version_info < OLDEST:
        for name in NEWER:
            path = shutil.which(name)
            if path:
                os.execv(path, [path, "-m", "stack.setup_env"] + sys.argv[1:])  # noqa: RUF005
        sys.stderr.write(
            "error: python3 is {}.{}, expected 3.11 or newer\n"
            "hint:  install Python 3.11 or newer (Debian 12 and later have it as python3)\n".format(
                *sys.version_info[:2]
            )
        )
        return 2
    from stack.install import run

    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
