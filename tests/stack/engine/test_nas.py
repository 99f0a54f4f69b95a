import os
from pathlib import Path

import pytest

from stack.engine import nas
from stack.engine.settings import LabSettings
from stack.errors import RefusedError
from stack.home import Home


def settings(**given: str) -> LabSettings:
    return LabSettings.from_env(given)


def test_a_folder_of_this_machine_is_bound_and_an_export_is_mounted(tmp_path: Path) -> None:
    home = Home(tmp_path)
    assert nas.volume_options(home, settings(NAS_PATH="/mnt/nas")) == {
        "type": "none",
        "o": "bind",
        "device": "/mnt/nas",
    }
    options = nas.volume_options(home, settings(NAS_NFS="nas.lab:/export/a"))
    assert options["type"] == "nfs" and options["device"] == ":/export/a"
    assert options["o"].startswith("addr=nas.lab,rw,") and "hard" in options["o"]
    own = nas.volume_options(home, settings(NAS_NFS="n:/e", NAS_NFS_OPTIONS="ro,nfsvers=3"))
    assert own["o"] == "addr=n,ro,nfsvers=3"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
def test_the_password_of_an_smb_share_is_in_no_option_and_on_no_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    credentials = tmp_path / "nas.credentials"
    credentials.write_text("username=lab\npassword=hunter22\n")
    said = tmp_path / "said"
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "mount").write_text(f'#!/bin/sh\necho "$@" >{said}\n')
    (programs / "mount").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    home = Home(tmp_path / "home")
    given = settings(NAS_SMB="//nas/imaging", NAS_SMB_CREDENTIALS=str(credentials))
    nas.make_ready(home, given)
    words = said.read_text()
    assert words.startswith(f"-t cifs //nas/imaging {home.root}/mnt/nas -o ")
    assert f"credentials={credentials}" in words and "gid=2000" in words
    assert "hunter22" not in words + str(nas.volume_options(home, given))


def test_a_share_that_cannot_be_mounted_is_refused_with_the_programs_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    credentials = tmp_path / "c"
    credentials.touch()
    (tmp_path / "mount").write_text("#!/bin/sh\necho 'unknown filesystem type cifs' >&2; exit 32\n")
    (tmp_path / "mount").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    given = settings(NAS_SMB="//nas/imaging", NAS_SMB_CREDENTIALS=str(credentials))
    with pytest.raises(RefusedError, match="unknown filesystem type cifs") as caught:
        nas.make_ready(Home(tmp_path / "home"), given)
    assert "cifs-utils" in caught.value.hint and caught.value.exit_code == 3


def test_a_home_keeps_its_share(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    first, second = tmp_path / "a", tmp_path / "b"
    first.mkdir()
    second.mkdir()
    nas.link_home(home, first)
    nas.link_home(home, first)
    assert home.nas.root == first
    with pytest.raises(RefusedError, match="this home uses"):
        nas.link_home(home, second)
