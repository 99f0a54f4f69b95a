import pytest

from stack.engine.settings import LabSettings
from stack.runtime.settings import SettingsError


def test_a_lab_that_sets_nothing_gets_the_usual_ports_and_a_folder_in_its_home() -> None:
    settings = LabSettings.from_env({})
    assert settings.stack_name == "labloop" and settings.profile == "lab"
    assert settings.nas.kind == "home" and (settings.lab_uid, settings.lab_gid) == (2000, 2000)
    assert settings.url("portal") == "https://localhost"
    assert settings.url("label") == "https://localhost:8443"


def test_a_domain_gives_every_page_a_name_and_keeps_the_ports_working() -> None:
    settings = LabSettings.from_env({"LAB_HOST": "10.0.0.5", "LAB_DOMAIN": "lab.example"})
    assert settings.url("portal") == "https://lab.example"
    assert settings.url("files") == "https://files.lab.example"
    assert settings.origins == ("https://label.lab.example", "https://10.0.0.5:8443")


def test_an_address_of_version_6_stands_in_brackets() -> None:
    settings = LabSettings.from_env({"LAB_HOST": "fd00::5"})
    assert settings.url("board") == "https://[fd00::5]:6443"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"STACK_NAME": "My Lab"}, "STACK_NAME is 'My Lab'"),
        ({"COMPOSE_PROFILES": "everything"}, "COMPOSE_PROFILES is 'everything'"),
        ({"LAB_HOST": "https://lab"}, "LAB_HOST is 'https://lab', expected a host name"),
        ({"GATEWAY_BIND": "eth0"}, "GATEWAY_BIND is 'eth0', expected an IP address"),
        ({"GATEWAY_PORT": "8443"}, "are both 8443"),
        ({"GATEWAY_PORT": "99999"}, "at most 65535"),
        ({"NAS_PATH": "/a", "NAS_NFS": "nas:/b"}, "expected one place for the NAS"),
        ({"NAS_PATH": "nas"}, "expected a path from / on"),
        ({"NAS_NFS": "/export"}, "expected server:/export"),
        ({"NAS_SMB": "nas/share"}, "expected //server/share"),
        ({"NAS_SMB": "//nas/share"}, "NAS_SMB_CREDENTIALS is not set"),
        ({"TLS_CERTIFICATE": "/etc/hostname"}, "given both or not at all"),
        ({"TLS_CERTIFICATE": "/nowhere", "TLS_KEY": "/etc/hostname"}, "expected a file"),
        ({"GPU": "maybe"}, "GPU is 'maybe'"),
    ],
)
def test_what_cannot_be_used_is_told(given: dict[str, str], words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        LabSettings.from_env(given)
    assert words in str(caught.value)
