"""`python -m services.files_lite`: copyparty with the lab's accounts, until told to stop."""

import importlib
import logging
import os
import sys
import tempfile
from pathlib import Path

from imaging.layout import Nas
from services.files_lite.config import config_text
from services.files_lite.settings import FilesLiteSettings
from services.files_lite.whole import make_uploads_whole
from stack.runtime.accounts import AccountsError, read_accounts
from stack.runtime.log import start_logging
from stack.runtime.settings import SettingsError

log = logging.getLogger("services.files_lite")


def main() -> int:
    try:
        settings = FilesLiteSettings.from_env(os.environ)
        accounts = read_accounts(settings.accounts)
        if not accounts.hashes:
            raise AccountsError("the accounts name nobody, expected one account or more")
    except (SettingsError, AccountsError) as error:
        sys.stderr.write(f"{error}\n{error.hint}\n")
        return 2
    start_logging("INFO")
    if not Nas(settings.nas_root).marker.is_file():
        log.error("%s has no marker file, expected the NAS to be mounted", settings.nas_root)
        return 1
    file = Path(tempfile.mkdtemp()) / "copyparty.conf"  # for nobody else to read
    file.write_text(config_text(settings, accounts), encoding="utf-8")
    modules = [importlib.import_module(f"copyparty.{name}") for name in ("httpcli", "up2k")]
    make_uploads_whole(*modules)
    log.info("files-lite started with %d accounts", len(accounts.hashes))
    importlib.import_module("copyparty.__main__").main(["copyparty", "-c", str(file)])
    return 0


if __name__ == "__main__":
    sys.exit(main())
