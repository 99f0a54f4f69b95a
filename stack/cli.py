"""The command `labloop`: parses the command line, runs one verb, explains errors.

Answers at once: a verb imports what it needs when it runs. Every verb's parser names the function
that acts, with `set_defaults(act=…)`; it gets the arguments and the home, and returns the exit
code: 0 done, 1 failed, 2 wrong usage or settings, 3 refused by a check.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

# Nothing of ours is imported up here: a Ctrl-C meets a traceback until `main` has begun.

INTERRUPTED = 130  # as a shell reports a Ctrl-C
# On a box where the services run in Docker, the command's own environment holds no models.
INSTALL = "`make setup` makes .venv, which has everything; use .venv/bin/labloop for this verb."


class VerbParser(argparse.ArgumentParser):
    """A parser that takes --home and --debug before or after any verb."""

    def __init__(self, *args: object, **options: object) -> None:
        super().__init__(*args, **options)  # type: ignore[arg-type]
        # SUPPRESS: a verb's parser must not overwrite with its default what was given before it.
        self.add_argument(
            "--home",
            type=_folder,
            default=argparse.SUPPRESS,
            metavar="DIR",
            help="the stack's folder (default: LABLOOP_HOME, else ./.labloop-home)",
        )
        self.add_argument(
            "--debug",
            action="store_true",
            default=argparse.SUPPRESS,
            help="show the traceback of an error",
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; the exit code."""
    try:
        return _run(arguments)
    except KeyboardInterrupt:
        return INTERRUPTED


def _run(arguments: Sequence[str] | None) -> int:
    from stack.engine.lab import is_in_docker
    from stack.home import Home
    from stack.settings import home_folder

    args = build_parser().parse_args(arguments)
    home = Home(home_folder(getattr(args, "home", None)))
    if is_in_docker(home):
        os.umask(0o002)  # a stack in Docker shares what lies on the NAS with the lab's group
    try:
        return cast(Callable[..., int], args.act)(args, home)
    except BrokenPipeError:  # `labloop logs | head`
        sys.stderr.close()
        return 0
    except Exception as error:
        if getattr(args, "debug", False):
            raise
        return _complain(error)


def _complain(error: Exception) -> int:
    """Tell a person what went wrong. Errors that carry a hint are ours; others are faults."""
    from stack import console

    hint = getattr(error, "hint", None)
    if isinstance(error, ModuleNotFoundError):
        console.complain(f"{error.name} is not installed here, and this verb needs it", INSTALL)
    elif hint is None:
        console.complain(f"{type(error).__name__}: {error}", "--debug shows where it comes from.")
    else:
        console.complain(str(error), hint)
    return exit_code(error)


def exit_code(error: Exception) -> int:
    """What the shell gets to know: 1 failed, 2 wrong usage or settings, 3 refused by a check.

    The stack's errors say it themselves; those of other rooms know of no shell.
    """
    from imaging import errors as imaging
    from stack.runtime.settings import SettingsError

    wrong_usage = (SettingsError, imaging.UnsafeNameError)
    refused = (
        imaging.NasGoneError,
        imaging.TaskConfigError,
        imaging.RecipeError,
        imaging.SnapshotError,
        imaging.CorruptFolderError,
        imaging.BundleError,
        imaging.RegistryError,
        imaging.QuarantineError,
        imaging.ExportError,
        imaging.SubmissionError,
    )
    if isinstance(error, wrong_usage):
        return 2
    return 3 if isinstance(error, refused) else int(getattr(error, "exit_code", 1))


def _folder(text: str) -> Path:
    if not text.strip():  # an unset variable in a script; "" would mean the current folder
        raise argparse.ArgumentTypeError("found nothing, expected a folder")
    return Path(text)


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    from stack import (
        verbs_backup,
        verbs_data,
        verbs_demo,
        verbs_engine,
        verbs_evaluate,
        verbs_export,
        verbs_images,
        verbs_inspect,
        verbs_machine,
        verbs_model,
        verbs_release,
        verbs_stack,
        verbs_submit,
        verbs_users,
    )

    parser: argparse.ArgumentParser = VerbParser(
        prog="labloop",
        description="Annotate, train, pre-annotate: the loop of a medical-imaging lab.",
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    verbs_stack.register(verbs)
    verbs_machine.register(verbs)
    verbs_engine.register(verbs)
    verbs_users.register(verbs)
    verbs_backup.register(verbs)
    verbs_images.register(verbs)
    verbs_data.register(verbs)
    verbs_inspect.register(verbs)
    verbs_model.register(verbs)
    verbs_evaluate.register(verbs)
    verbs_release.register(verbs)
    verbs_export.register(verbs)
    verbs_submit.register(verbs)
    verbs_demo.register(verbs)
    return parser


if __name__ == "__main__":
    sys.exit(main())
