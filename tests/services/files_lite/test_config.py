from pathlib import Path

from services.files_lite.config import config_text
from services.files_lite.settings import FilesLiteSettings
from stack.runtime.accounts import Accounts


def test_the_volume_belongs_to_the_accounts_and_to_nobody_else() -> None:
    settings = FilesLiteSettings(Path("/nas"), Path("/state"), "")
    text = config_text(settings, Accounts("pepper", {"alice": "+a", "bob": "+b"}))
    head, volume = text.split("[/nas]")
    assert volume.split() == ["/nas", "accs:", "rwmd:", "alice,", "bob"]
    assert "  alice: +a" in head and "ah-salt: pepper" in head and "hist: /state/hist" in head
