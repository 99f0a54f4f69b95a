"""The user's pip configuration reaches uv."""

from stack.pip_settings import parse_pip_config, uv_options, uv_variables

PRINTED = """\
:env:.find-links='/wheels /more'
:env:.default-timeout='15'
global.index-url='https://mirror.example/simple'
global.extra-index-url='https://a.example/simple\\nhttps://b.example/simple'
global.cert='/etc/ca.pem'
global.find-links='/lost'
install.trusted-host='mirror.example'
something odd
download.index-url='https://not-ours.example'
"""


def test_the_environment_wins_over_install_over_global() -> None:
    pip = parse_pip_config(PRINTED)
    assert pip["find-links"] == "/wheels /more"
    assert pip["index-url"] == "https://mirror.example/simple"
    assert parse_pip_config("global.cert='a'\ninstall.cert='b'\n")["cert"] == "b"


def test_each_of_pips_words_has_one_of_uvs() -> None:
    variables = uv_variables(parse_pip_config(PRINTED), {})
    assert variables == {
        "UV_DEFAULT_INDEX": "https://mirror.example/simple",
        "UV_INDEX": "https://a.example/simple https://b.example/simple",
        "UV_FIND_LINKS": "/wheels,/more",
        "SSL_CERT_FILE": "/etc/ca.pem",
        "UV_INSECURE_HOST": "mirror.example",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_PYTHON_DOWNLOADS": "never",
    }


def test_what_the_user_set_for_uv_itself_stays() -> None:
    given = {"UV_DEFAULT_INDEX": "mine", "UV_INDEX_STRATEGY": "first-index", "PATH": "/bin"}
    assert uv_variables(parse_pip_config(PRINTED), given).items() >= given.items()


def test_a_machine_without_a_network_stays_without_one() -> None:
    assert uv_options(parse_pip_config("global.no-index='true'")) == ["--no-index"]
    assert uv_options(parse_pip_config("global.no-index='false'")) == []
    assert uv_options({}) == []
