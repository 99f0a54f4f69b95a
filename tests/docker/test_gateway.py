"""The one door: a real Caddy before stand-ins, started as compose.yaml starts it."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from stack.environments import ROOT
from tests.docker.bases import CADDY, PYTHON, ensure_base
from tests.docker.engine import GID, UID, Mount, docker, try_docker, wait_for
from tests.docker.gateway import BOARD, FILES, LABEL, PORTAL, Gateway, Street
from tests.docker.stand_in import SESSION, TOKEN

pytestmark = pytest.mark.docker
PAGE = {"Accept": "text/html,application/xhtml+xml"}
SIGNED_IN = {"Cookie": f"csrftoken=x; {SESSION}"}


@pytest.fixture(scope="module")
def street(engine: None) -> Iterator[Street]:
    street = Street()
    try:
        street.open()
        street.stand_in("label-studio", "tensorboard", "files")
        yield street
    finally:
        street.close()


@pytest.fixture(scope="module")
def gateway(street: Street) -> Gateway:
    """By an IP address, on ports; as after `labloop up` without a setting."""
    return Gateway(street.gateway("gateway", "127.0.0.1"), "127.0.0.1")


@pytest.fixture(scope="module")
def named(street: Street) -> Gateway:
    """With host names for the applications, besides the ports."""
    container = street.gateway("named", "Lab.Example", LAB_DOMAIN="lab.example", GATEWAY_PORT="443")
    return Gateway(container, "lab.example")


def test_the_certificate_is_valid_for_the_host_and_for_localhost(gateway: Gateway) -> None:
    for host in ("127.0.0.1", "localhost"):
        for port in (PORTAL, LABEL, FILES):
            assert gateway.ask(port, host=host).status_code == 200


def test_the_certificate_of_the_authority_is_served_and_its_key_is_not(gateway: Gateway) -> None:
    answer = gateway.plain("/ca.crt")
    assert answer.headers["Content-Type"] == "application/x-x509-ca-cert"
    assert answer.text.count("BEGIN CERTIFICATE") == 1 and "KEY" not in answer.text
    found = gateway.container.execute("ls", "/data/caddy/pki/authorities/local").split()
    assert "root.key" in found and "intermediate.key" in found
    for path in (
        *("/root.key", "/intermediate.key", "/root.crt", "/ca.crt/root.key", "/ca.crt/../root.key"),
        *("/ca.crt%2f..%2froot.key", "/ca.crt/..%2froot.key", "/data/", "/ca.key", "/CA.CRT/"),
        *("//root.key", "/ca.crt?file=root.key", "/.%2e/root.key", "/ca.crt/%2e%2e/root.key"),
    ):
        for text in (gateway.plain(path).text, gateway.ask(PORTAL, path).text):
            assert "PRIVATE" not in text, path
    rights = gateway.container.execute("stat", "-c", "%a", "/data/caddy/pki/authorities/local")
    assert int(rights, 8) & 0o077 == 0


def test_plain_http_leads_to_the_portal_where_it_is_published(gateway: Gateway) -> None:
    for path in ("/", "/some/page?x=1"):
        answer = gateway.plain(path)
        assert answer.status_code == 302
        assert answer.headers["Location"] == f"https://127.0.0.1:20443{path}"
    elsewhere = gateway.plain("/", host="evil.example")
    assert elsewhere.headers["Location"] == "https://127.0.0.1:20443/"


def test_whoever_forgets_the_s_in_https_is_sent_on(gateway: Gateway) -> None:
    """Spoken plainly to a TLS port; the browser named the published one."""
    script = (
        "import http.client as c; h = c.HTTPConnection('gateway', 8444); "
        "h.request('GET', '/x', headers={'Host': '127.0.0.1:28443'}); r = h.getresponse(); "
        "print(r.status, r.headers['Location'])"
    )
    words = ("run", "--rm", "--network", docker_network(gateway), ensure_base(PYTHON))
    found = docker(*words, "python3", "-c", script)
    assert found == "308 https://127.0.0.1:28443/x"


def docker_network(gateway: Gateway) -> str:
    return str(next(iter(gateway.container.inspect()["NetworkSettings"]["Networks"])))


def test_the_portal_names_and_links_the_applications(gateway: Gateway) -> None:
    page = gateway.ask(PORTAL)
    for link in (
        "https://127.0.0.1:28443/",
        "https://127.0.0.1:29443/",
        "https://127.0.0.1:26443/",
    ):
        assert f'href="{link}"' in page.text
    assert 'href="/ca.crt"' in page.text and "{{" not in page.text
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    for path in ("/style.css", "/status.js", "/health"):
        assert gateway.ask(PORTAL, path).status_code == 200
    for path in ("/Caddyfile", "/../Caddyfile", "/start.sh", "/README.md"):
        assert "local_certs" not in gateway.ask(PORTAL, path).text


def test_the_portal_tells_how_an_application_is_and_nothing_more(gateway: Gateway) -> None:
    expected = {"label-studio": 200, "tensorboard": 200, "files": 503}
    for name, code in expected.items():
        for path in (f"/status/{name}", f"/status/{name}?path=/api"):
            answer = gateway.ask(PORTAL, path, headers=SIGNED_IN)
            assert (answer.status_code, answer.content) == (code, b"")
    assert gateway.ask(PORTAL, "/status/other").status_code == 404


def test_label_studio_is_told_who_asks_and_by_which_address(gateway: Gateway) -> None:
    forged = {"X-Forwarded-For": "6.6.6.6", "X-Forwarded-Proto": "gopher", "Authorization": TOKEN}
    host = "127.0.0.1:28443"
    answer = gateway.ask(LABEL, "/api/x?y=1", headers={**forged, **SIGNED_IN, "Host": host})
    seen = answer.json()
    assert (seen["path"], seen["headers"]["host"]) == ("/api/x?y=1", host)
    assert seen["headers"]["x-forwarded-proto"] == "https"
    assert seen["headers"]["x-forwarded-host"] == host
    assert "6.6.6.6" not in seen["headers"]["x-forwarded-for"]
    assert seen["headers"]["authorization"] == TOKEN, "programs use Label Studio's API"
    assert seen["headers"]["cookie"] == SIGNED_IN["Cookie"]


@pytest.mark.parametrize("port", [PORTAL, LABEL, FILES, BOARD])
def test_answers_give_little_away(gateway: Gateway, port: int) -> None:
    for path in ("/", "/no/such/page"):
        headers = gateway.ask(port, path, headers=SIGNED_IN).headers
        assert not {"Server", "Via", "Strict-Transport-Security", "Alt-Svc"} & {
            key.title() for key in headers
        }
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "same-origin"
        assert headers["X-Frame-Options"] == "SAMEORIGIN"


def test_tensorboard_is_closed_to_strangers(gateway: Gateway) -> None:
    page = gateway.ask(BOARD, "/", headers=PAGE)
    assert page.status_code == 302
    login = "https://127.0.0.1:28443/user/login/?next=/labloop/board"
    assert page.headers["Location"] == login
    for headers in ({}, {"Cookie": "labloop-0123456789ab=bad"}, {"Authorization": TOKEN}):
        for method in ("GET", "POST"):
            answer = gateway.ask(BOARD, "/data/runs", method=method, headers=headers)
            assert answer.status_code == 401 and "runs" not in answer.text
    with_token = gateway.ask(BOARD, "/?token=good", headers={"Authorization": TOKEN, **PAGE})
    assert with_token.status_code == 302
    back = gateway.ask(LABEL, "/labloop/board", headers=SIGNED_IN)
    assert (back.status_code, back.headers["Location"]) == (302, "https://127.0.0.1:26443/")


def test_tensorboard_is_open_to_whoever_is_signed_in_to_label_studio(gateway: Gateway) -> None:
    body = b"x" * 1000
    headers = {**SIGNED_IN, "Authorization": TOKEN, "If-None-Match": "*"}
    answer = gateway.ask(BOARD, "/data/runs?x=1", method="POST", headers=headers, content=body)
    seen = answer.json()
    assert (seen["port"], seen["method"], seen["path"]) == (6006, "POST", "/data/runs?x=1")
    assert seen["size"] == len(body), "the question to Label Studio left the body where it was"
    assert not {"authorization", "cookie"} & seen["headers"].keys()


def test_the_file_service_never_sees_label_studios_session(gateway: Gateway) -> None:
    cookies = f"a=1; {SESSION}; oc=2"
    seen = gateway.ask(FILES, "/x", headers={"Cookie": cookies, "Authorization": "Basic x"}).json()
    assert seen["headers"]["cookie"] == "a=1; oc=2"
    assert seen["headers"]["authorization"] == "Basic x", "WebDAV signs in with it"
    moved = gateway.ask(FILES, "/.well-known/caldav")
    assert (moved.status_code, moved.headers["Location"]) == (301, "/remote.php/dav/")


def test_the_log_tells_what_happened_and_no_secret(gateway: Gateway) -> None:
    gateway.ask(LABEL, "/api/tasks/7?token=hush-1", headers={"Cookie": "a=hush-2"})
    gateway.ask(LABEL, "/data/hush-3.png", headers={"Authorization": "Token hush-4"})
    gateway.ask(LABEL, "/user/login/")
    log = gateway.container.logs()
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    paths = [line["request"]["uri"] for line in lines if "request" in line]
    assert "/api/tasks/7" in paths and "/data" in paths
    assert "hush" not in log and "good" not in log


def test_nothing_is_more_than_it_must_be(gateway: Gateway) -> None:
    status = gateway.container.execute("sh", "-c", "cat /proc/[0-9]*/status")
    assert {line for line in status.splitlines() if line.startswith("CapEff")} == {
        "CapEff:\t0000000000000000"
    }
    assert set(gateway.container.execute("sh", "-c", "ls -ln /data | tail -n +2").split()) >= {
        str(UID),
        str(GID),
    }
    listening = gateway.container.execute("sh", "-c", "cat /proc/net/tcp /proc/net/tcp6")
    ports = {
        int(line.split()[1].rpartition(":")[2], 16)
        for line in listening.splitlines()
        if " 0A " in line
    }
    # Docker's own name server listens on a port of its own, on 127.0.0.11.
    assert {8080, PORTAL, LABEL, FILES, BOARD} <= ports and 2019 not in ports


def test_an_application_that_is_away_is_told_in_words(street: Street, gateway: Gateway) -> None:
    apps = street.containers[0]
    docker("kill", apps.name)
    try:
        answer = gateway.ask(LABEL)
        assert answer.status_code == 502 and "does not answer" in answer.text
        board = gateway.ask(BOARD, headers={**SIGNED_IN, **PAGE})
        assert board.status_code == 502
        assert gateway.ask(PORTAL, "/status/label-studio").status_code == 502
        assert gateway.ask(PORTAL).status_code == 200
    finally:
        docker("start", apps.name)
        wait_for("it is back", lambda: gateway.ask(LABEL).status_code == 200, 30.0)


def test_applications_have_names_below_the_labs_domain(named: Gateway) -> None:
    expected = {"label.lab.example": 8080, "files.lab.example": 80}
    for host, port in expected.items():
        assert named.ask(PORTAL, "/api", host=host).json()["port"] == port
    board = named.ask(PORTAL, host="board.lab.example", headers=SIGNED_IN)
    assert board.json()["port"] == 6006
    page = named.ask(PORTAL)
    for name in ("label", "files", "board"):
        assert f'href="https://{name}.lab.example/"' in page.text
    assert named.ask(LABEL, "/api").json()["port"] == 8080, "ports are there as well"
    plain = named.plain("/x", host="label.lab.example")
    assert plain.headers["Location"] == "https://label.lab.example/x"


def test_a_session_holds_for_all_names_of_the_domain(named: Gateway) -> None:
    cookie = named.ask(PORTAL, "/user/login/", host="label.lab.example").headers["Set-Cookie"]
    assert cookie.startswith(SESSION) and cookie.endswith("; Domain=lab.example")
    by_port = named.ask(LABEL, "/user/login/").headers["Set-Cookie"]
    assert "Domain" not in by_port
    page = named.ask(PORTAL, host="board.lab.example", headers=PAGE)
    login = "https://label.lab.example/user/login/?next=/labloop/board"
    assert (page.status_code, page.headers["Location"]) == (302, login)
    back = named.ask(PORTAL, "/labloop/board", host="label.lab.example")
    assert back.headers["Location"] == "https://board.lab.example/"


def test_a_name_that_is_not_ours_leads_to_the_portal(gateway: Gateway, named: Gateway) -> None:
    for one, portal in ((gateway, "https://127.0.0.1:20443/"), (named, "https://lab.example/")):
        answer = one.ask(LABEL, headers={"Host": "rebound.example"})
        assert (answer.status_code, answer.headers["Location"]) == (302, portal)


def test_a_certificate_of_the_labs_own_is_served(street: Street, tmp_path: Path) -> None:
    make_certificate(tmp_path)
    files = {"GATEWAY_CERTIFICATE": "tls.crt", "GATEWAY_CERTIFICATE_KEY": "tls.key"}
    container = street.gateway(
        "own",
        "lab.example",
        (Mount(tmp_path, "/run/secrets", read_only=True),),
        **{key: f"/run/secrets/{name}" for key, name in files.items()},
    )
    own = Gateway(container, "lab.example", (tmp_path / "tls.crt").read_text())
    for port in (PORTAL, LABEL, FILES):
        assert own.ask(port).status_code == 200
    assert own.plain("/ca.crt").status_code == 404, "there is nothing to install"
    assert "ca.crt" not in own.ask(PORTAL).text


def make_certificate(folder: Path) -> None:
    """As a hospital's authority would; dealt out as `labloop up` does."""
    words = ("run", "--rm", "--volume", f"{folder}:/s", ensure_base(PYTHON), "sh", "-c")
    name = "-subj /CN=lab.example -addext subjectAltName=DNS:lab.example"
    key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout /s/tls.key"
    make = f"openssl req -x509 -days 2 {key} -out /s/tls.crt {name} 2>&1"
    docker(*words, f"{make} && chown -R {UID}:{GID} /s && chmod 400 /s/tls.key")


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"LAB_HOST": "lab_1/x"}, "LAB_HOST is 'lab_1/x', expected a host name or an IP address"),
        ({"LAB_DOMAIN": "lab"}, "expected a domain with a dot in it"),
        ({"GATEWAY_PORT": "https"}, "GATEWAY_PORT is 'https', expected a port"),
        ({"GATEWAY_CERTIFICATE": "/x"}, "cannot read '/x'"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_in_one_line(
    settings: dict[str, str], reason: str, tmp_path: Path
) -> None:
    given = [word for key, value in settings.items() for word in ("--env", f"{key}={value}")]
    mount = Mount(ROOT / "services" / "gateway", "/etc/caddy", read_only=True).words
    command = (*given, *mount, ensure_base(CADDY), "sh", "/etc/caddy/start.sh")
    name = f"labloop-gateway-{os.getpid()}--refused"
    answer = try_docker("run", "--rm", "--name", name, "--network", "none", *command)
    assert answer.returncode == 2 and reason in answer.stderr
    assert len(answer.stderr.splitlines()) == 1
