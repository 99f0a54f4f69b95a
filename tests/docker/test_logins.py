"""A whole lab's pages, asked by somebody whom nobody knows: a login, and TLS, or nothing."""

import contextlib
import http.client
import ssl
import warnings

import httpx
import pytest

from tests.docker.labs import DockerLab

pytestmark = [pytest.mark.docker, pytest.mark.label_studio]
PAGE = {"Accept": "text/html,application/xhtml+xml"}
# --- without a login -----------------------------------------------------------------------------


FORGED = {
    "X-Forwarded-For": "127.0.0.1",
    "X-Forwarded-User": "admin",
    "X-Forwarded-Email": "admin@labloop.local",
    "X-Remote-User": "admin@labloop.local",
    "Remote-User": "admin",
    "X-Real-IP": "127.0.0.1",
    "X-Original-URL": "/health",
    "X-Rewrite-URL": "/health",
    "X-Accel-Redirect": "/api/projects",
    "X-HTTP-Method-Override": "GET",
    "Idp-User": "admin",
    "Authorization": "Token 0123456789012345678901234567890123456789",
    "Cookie": "labloop-0123456789ab=x; sessionid=x",
    "Destination": "/nas/elsewhere",
}


@pytest.mark.parametrize("headers", [{}, FORGED], ids=["plain", "forged"])
@pytest.mark.parametrize(
    ("app", "method", "path"),
    [
        *(("LABEL", "GET", f"/api/{what}") for what in ("projects", "users", "tasks/1", "ml")),
        ("LABEL", "GET", "/api/current-user/token"),
        ("LABEL", "POST", "/api/projects"),
        ("LABEL", "DELETE", "/api/projects/1"),
        ("LABEL", "GET", "/api/storages/localfiles"),
        ("LABEL", "GET", "/data/local-files/?d=dataset"),
        ("LABEL", "GET", "/api/webhooks/"),
        ("LABEL", "GET", "/api/health/../projects"),
        ("FILES", "PUT", "/nas/dataset/x.png"),
        ("FILES", "PROPFIND", "/nas/"),
        ("FILES", "MKCOL", "/nas/x"),
        ("FILES", "DELETE", "/nas/dataset"),
        ("FILES", "GET", "/nas/.labloop"),
        ("BOARD", "GET", "/data/runs"),
        ("BOARD", "GET", "/data/environment"),
        ("BOARD", "POST", "/"),
        ("BOARD", "TRACE", "/"),
        ("BOARD", "OPTIONS", "/data/runs"),
    ],
)
def test_nothing_is_told_or_taken_without_a_login(
    stack: DockerLab, app: str, method: str, path: str, headers: dict[str, str]
) -> None:
    answer = stack.ask(app, path, method, headers=headers)
    assert answer.status_code in (400, 401, 403, 404, 405), answer.text[:300]
    for word in ("admin@", '"results"', '["', "TRACE /"):
        assert word not in answer.text


def test_pages_lead_to_the_login(stack: DockerLab) -> None:
    for path in ("/", "/projects/", "/projects/1/data", "/organization/", "/user/account/"):
        answer = stack.ask("LABEL", path, headers=PAGE)
        assert answer.status_code == 302 and "/user/login/" in answer.headers["Location"], path
    board = stack.ask("BOARD", "/", headers=PAGE)
    assert board.status_code == 302 and "/user/login/" in board.headers["Location"]
    assert "dataset" not in stack.ask("FILES", "/", headers=PAGE).text, (
        "a form to log in, and no names"
    )
    assert stack.ask("FILES", "/nas/").status_code in (401, 403, 404)


def test_nobody_signs_up(stack: DockerLab) -> None:
    with stack.browser() as browser:
        page = f"{stack.url('LABEL')}/user/signup/"
        browser.get(page)
        form = {"email": "x@evil.example", "password": "Evil-Passw0rd-1"}
        form["csrfmiddlewaretoken"] = browser.cookies["csrftoken"]
        for more in ("", "?token=x", "?next=/"):
            assert (
                browser.post(page + more, data=form, headers={"Referer": page}).status_code == 403
            )
        assert browser.get(f"{stack.url('LABEL')}/api/projects").status_code == 401


@pytest.mark.parametrize("path", ["/trigger500/", "/metrics/", "//metrics/", "/django-rq/"])
def test_what_operates_label_studio_is_nobodys_page(stack: DockerLab, path: str) -> None:
    """An error on demand fills the log; queues and numbers are not for the network."""
    assert stack.ask("LABEL", path).status_code == 404


TRICKS = (
    *("/status/..%2f", "/status/../", "/status/label-studio/..%2f..%2fapi%2fprojects", "//api/"),
    *("/status/files/../../api/projects", "/status/label-studio/../../api/projects", "/status/x"),
    *("/status%2flabel-studio", "/..%2f..%2fetc/passwd", "/%2e%2e/%2e%2e/etc/passwd"),
    *("/etc/caddy/Caddyfile", "//etc/caddy/Caddyfile", "/.%00/", "/site/../start.sh", "/api/../"),
)


@pytest.mark.parametrize("path", TRICKS)
def test_no_path_leads_from_the_portal_to_an_application(stack: DockerLab, path: str) -> None:
    text = raw(stack, "", "GET", path)[1]
    for word in ("root:", "local_certs", "set -eu", '"count"', "PRIVATE", "csrf", "copyparty"):
        assert word not in text


@pytest.mark.parametrize("path", ["/api/../", "//", "/static/../api/projects", "/x/..%2fdata/runs"])
def test_no_path_leads_past_the_question_who_asks(stack: DockerLab, path: str) -> None:
    assert raw(stack, "BOARD", "GET", path)[0] == 401
    code, text = raw(stack, "LABEL", "GET", path)
    assert code in (301, 302, 400, 401, 403, 404) and "results" not in text


def test_the_host_header_opens_no_other_application(stack: DockerLab) -> None:
    ports = {app: stack.settings[f"GATEWAY_{app}_PORT"] for app in ("LABEL", "FILES", "BOARD")}
    for app, other in (("BOARD", "LABEL"), ("LABEL", "BOARD"), ("FILES", "BOARD")):
        code, text = raw(stack, app, "GET", "/data/runs", Host=f"127.0.0.1:{ports[other]}")
        assert code in (302, 401, 403, 404) and '["' not in text, app
    for host in ("tensorboard:6006", "label-studio:8080", "ml-backend:9090", "localhost.evil"):
        code, text = raw(stack, "LABEL", "GET", "/api/projects", Host=host)
        assert code in (302, 400, 401) and "results" not in text, host
    code, _ = raw(stack, "LABEL", "GET", "http://ml-backend:9090/health")
    assert code in (302, 400, 401, 404), "the gateway is nobody's proxy"
    code, _ = raw(stack, "LABEL", "CONNECT", "ml-backend:9090")
    assert code >= 400 or code == 302


def raw(stack: DockerLab, app: str, method: str, path: str, **headers: str) -> tuple[int, str]:
    """A request as it is written here; other clients tidy paths up."""
    url = httpx.URL(stack.url(app))
    trust = ssl.create_default_context(cafile=str(stack.authority))
    connection = http.client.HTTPSConnection(url.host, url.port, context=trust, timeout=20)
    with contextlib.closing(connection):
        connection.putrequest(method, path, skip_host=True)
        for key, value in ({"Host": f"{url.host}:{url.port}"} | headers).items():
            connection.putheader(key, value)
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, answer.read().decode("utf-8", "replace")


def test_the_portal_names_the_applications_and_nothing_else(stack: DockerLab) -> None:
    text = stack.ask("", "/").text
    assert "Label Studio" in text
    for word in ("admin@", stack.name, "labloop/", str(stack.home.root), "1.23", "ml-backend"):
        assert word not in text
    assert stack.ask("", "/status/label-studio").content == b""


# --- TLS, and only TLS ---------------------------------------------------------------------------


@pytest.mark.parametrize("app", ["", "LABEL", "FILES", "BOARD"])
def test_without_tls_there_is_a_hint_and_no_page(stack: DockerLab, app: str) -> None:
    answer = httpx.get(stack.url(app).replace("https:", "http:") + "/api/", trust_env=False)
    assert answer.status_code == 308 and answer.headers["Location"].startswith("https://")
    assert answer.content == b"" and "set-cookie" not in answer.headers


@pytest.mark.parametrize("app", ["", "LABEL", "FILES", "BOARD"])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_old_tls_is_refused(stack: DockerLab, app: str, version: ssl.TLSVersion) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")  # or this machine's own OpenSSL would refuse it
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = version
    with (
        pytest.raises(httpx.ConnectError, match=r"(?i)protocol version|alert|unsupported"),
        httpx.Client(verify=context, trust_env=False) as client,
    ):
        client.get(stack.url(app))


def test_the_certificate_is_checked_against_the_labs_authority_alone(stack: DockerLab) -> None:
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx.get(stack.url("LABEL"), trust_env=False)
