"""Starts Label Studio: database, admin and token without a click, then gunicorn.

Runs with the Python of Label Studio's own environment, as a script or as a module; of Labloop it
needs only this folder and `stack/runtime`.

    python services/label_studio/start.py                   # serve, settings in the environment
    python services/label_studio/start.py --migrate         # only database, admin and token
    python services/label_studio/start.py --make-template   # only make the template database
"""

# Label Studio and gunicorn live in an environment of their own, which mypy does not see.
# mypy: disable-error-code="import-not-found, import-untyped"

import argparse
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).resolve().parents[2]
if __package__ in (None, ""):  # run as a script: this folder's modules are found by full path too
    sys.path[0] = str(ROOT)

from services.label_studio import django_app, template  # noqa: E402
from services.label_studio.settings import LabelStudioSettings, template_dir  # noqa: E402
from stack.runtime.log import start_logging  # noqa: E402
from stack.runtime.settings import SettingsError  # noqa: E402

log = logging.getLogger("services.label_studio")


def main() -> int:
    parser = argparse.ArgumentParser(description="Start Label Studio.")
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--make-template", action="store_true", help="only make the template")
    only.add_argument("--migrate", action="store_true", help="only bring the database up to date")
    arguments = parser.parse_args()
    start_logging("WARNING")  # Label Studio's own info names files
    logging.getLogger("services").setLevel(logging.INFO)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    if arguments.make_template:
        template.make_template(template_dir(os.environ))
        return 0
    try:
        settings = LabelStudioSettings.from_env(os.environ)
    except SettingsError as error:
        log.error("settings are not usable: %s", error)
        return 2
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    copy_template(settings)
    django_app.set_up(
        settings.data_dir, settings.nas_root, settings.secret_key, database=settings.database
    )
    # A server does itself what `--migrate` does before it: nothing is left to do, or it is the
    # first of several. So no order of starting can serve an old schema.
    try:
        with django_app.alone():
            django_app.migrate()
            django_app.ensure_admin(settings.username, settings.password, settings.token)
    except django_app.DatabaseDownError as error:
        log.error("the database does not answer: %s. %s", error, error.hint)
        return 1
    if arguments.migrate:
        log.info("the database is up to date")
        return 0
    application = django_app.application()
    log.info("Label Studio listens on %s:%d", settings.host, settings.port)
    serve(application, settings)
    return 0


def copy_template(settings: LabelStudioSettings) -> None:
    """Give a new home a copy of the template; without a template it migrates in place."""
    database = settings.data_dir / template.DATABASE
    if settings.database is not None or database.exists():
        return
    source = template.template_path(settings.template_dir)
    if not source.is_file():
        log.info("first start of this version: making the template database takes up to 2 minutes")
        # In a process of its own: Django can be set up on one database per process.
        command = [sys.executable, str(Path(__file__).resolve()), "--make-template"]
        environment = {**os.environ, "LABEL_STUDIO_TEMPLATE_DIR": str(settings.template_dir)}
        if subprocess.run(command, env=environment, cwd=ROOT, check=False).returncode != 0:
            log.warning("template database was not made: migrating this home's own database")
            return
    template.copy_template(source, database)


def serve(application: Callable[..., Any], settings: LabelStudioSettings) -> None:
    """Run gunicorn in this process until SIGTERM; the workers share the loaded application."""
    from gunicorn.app.base import BaseApplication

    options = {
        "bind": f"{settings.host}:{settings.port}",
        "worker_class": "gthread",
        "workers": settings.workers,
        "threads": settings.threads,
        # Longer than a client keeps an idle connection, so that none is closed under a request.
        "keepalive": 75,
        "timeout": 300,
        "graceful_timeout": 15,  # less than the runner's stop_s
        "control_socket_disable": True,
        "proc_name": "labloop-label-studio",
    }

    class Server(BaseApplication):  # type: ignore[misc, unused-ignore]
        def load_config(self) -> None:
            for name, value in options.items():
                self.cfg.set(name, value)

        def load(self) -> Callable[..., Any]:
            return application

    Server().run()


def _stop(signum: int, frame: object) -> NoReturn:
    """Until gunicorn takes over the signals: leave, and take a template builder along."""
    raise SystemExit(0)


if __name__ == "__main__":
    sys.exit(main())
