"""The light file service: copyparty's real image behind the gateway, asked as WebDAV asks."""

import hashlib
import http.client
import json
import ssl
import stat
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from imaging.layout import MARKER
from services.ingest.names import is_passed_over
from stack.runtime.accounts import add_account
from tests.docker.bases import PYTHON, ensure_base
from tests.docker.conftest import give_to_the_lab
from tests.docker.engine import GID, LOCKED_UP, UID, Container, Mount, docker, wait_for
from tests.docker.gateway import FILES, Gateway, Street
from tests.docker.images import build, build_words

pytestmark = pytest.mark.docker
ALICE = httpx.BasicAuth("alice", "a long password")
BLOCK = bytes(range(256)) * 4096  # 1 MiB
BIG_MIB = 200


@dataclass(frozen=True)
class Files:
    """The service, the share it shows, and the door to it."""

    container: Container
    share: Path
    gateway: Gateway

    def ask(
        self,
        method: str,
        path: str,
        auth: httpx.Auth | None = ALICE,
        content: bytes | Iterator[bytes] | None = None,
        headers: dict[str, str] | None = None,
    ) -> httpx.Response:
        with httpx.Client(verify=self.gateway.trust, trust_env=False, timeout=120.0) as client:
            return client.request(
                method,
                f"https://{self.gateway.address}:{FILES}{path}",
                headers={"Host": self.gateway.host, **(headers or {})},
                content=content,
                auth=auth,
                extensions={"sni_hostname": self.gateway.host},
            )


@pytest.fixture(scope="module")
def files(engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Files]:
    root = tmp_path_factory.mktemp("files-lite")
    base = ensure_base(PYTHON)
    image = build("files-lite", base, build_words())
    share, secrets = root / "nas", root / "secrets"
    (share / "dataset").mkdir(parents=True)
    (share / MARKER).touch()
    give_to_the_lab(share)
    secrets.mkdir(mode=0o755)
    text = add_account(add_account("", "alice", "a long password"), "bob", "another one")
    (secrets / "files-lite-accounts").write_text(text)
    street = Street(f"{Street().name}-files")
    try:
        street.open()
        container = street.build(
            "files",
            image.tag,
            words=(*LOCKED_UP, "--init", "--memory", "512m", "--volume", "/state"),
            mounts=(Mount(share, "/nas"), Mount(secrets, "/run/secrets", read_only=True)),
        )
        gateway = Gateway(street.gateway("gateway", "127.0.0.1"), "127.0.0.1")
        container.wait_until("healthy", 30.0)
        yield Files(container, share, gateway)
    finally:
        street.close()


@pytest.mark.parametrize(
    "auth", [None, httpx.BasicAuth("alice", "wrong"), httpx.BasicAuth("", "x")]
)
def test_nobody_gets_in_without_an_account(files: Files, auth: httpx.Auth | None) -> None:
    for method, path in (
        *(("GET", "/nas/"), ("GET", "/nas/.labloop"), ("PROPFIND", "/nas/"), ("GET", "/nas/?ls")),
        *(("PUT", "/nas/x"), ("DELETE", "/nas/dataset"), ("MKCOL", "/nas/y"), ("PUT", "/x")),
    ):
        answer = files.ask(method, path, auth, b"x" if method == "PUT" else None)
        assert answer.status_code in (401, 403, 404), (method, path)
        assert "dataset" in path or "dataset" not in answer.text
    # Another's name with one's own password, and a password alone, as copyparty allows by default.
    for wrong in (httpx.BasicAuth("bob", "a long password"), httpx.BasicAuth("x", "another one")):
        assert files.ask("PROPFIND", "/nas/", wrong).status_code in (401, 403)
    assert sorted(path.name for path in files.share.iterdir()) == [MARKER, "dataset"]


def test_what_is_put_is_the_labs(files: Files) -> None:
    assert files.ask("MKCOL", "/nas/dataset/Task001_x").status_code == 201
    assert files.ask("PUT", "/nas/dataset/Task001_x/la_1.png", content=BLOCK).status_code == 201
    path = files.share / "dataset" / "Task001_x" / "la_1.png"
    found, folder = path.stat(), path.parent.stat()
    assert path.read_bytes() == BLOCK
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (UID, GID, 0o664)
    assert (folder.st_gid, stat.S_IMODE(folder.st_mode)) == (GID, 0o2775)
    assert files.ask("GET", "/nas/dataset/Task001_x/la_1.png").content == BLOCK
    listed = files.ask("PROPFIND", "/nas/", headers={"Depth": "1"}).text
    assert "dataset" in listed and MARKER not in listed
    nothing_else = {"dataset", MARKER}
    assert {one.name for one in files.share.iterdir()} == nothing_else, "no database on the NAS"


def test_a_big_upload_streams_through_and_arrives_as_it_was(files: Files) -> None:
    digest = hashlib.sha256()

    def blocks() -> Iterator[bytes]:
        for number in range(BIG_MIB):
            block = number.to_bytes(8, "big") + BLOCK[8:]
            digest.update(block)
            yield block

    size = {"Content-Length": str(BIG_MIB << 20)}
    assert files.ask("PUT", "/nas/big.nii", content=blocks(), headers=size).status_code == 201
    path = files.share / "big.nii"
    with path.open("rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == digest.hexdigest()
    path.unlink()
    status = files.gateway.container.execute("sh", "-c", "grep -h VmHWM /proc/[0-9]*/status")
    assert max(int(line.split()[1]) for line in status.splitlines()) < 150 << 10


def seen_by_ingest(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if not is_passed_over(path.name)]


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_half_an_upload_is_never_taken_for_a_picture(files: Files, framing: str) -> None:
    """Stopped in the middle, then cut: ingest sees nothing, during it and after."""
    folder = files.share / f"half-{framing}"
    assert files.ask("MKCOL", f"/nas/{folder.name}").status_code == 201
    connection = begin_put(files, f"/nas/{folder.name}/p_1.png", framing)
    send = connection.send if framing == "length" else chunk(connection)
    for _ in range(4):
        send(BLOCK)
    wait_for("the half is written", lambda: bool(list(folder.iterdir())), 10.0)
    time.sleep(1.0)
    assert seen_by_ingest(folder) == []
    connection.close()
    wait_for("the half is gone", lambda: not list(folder.iterdir()), 15.0)
    again = files.ask("PUT", f"/nas/{folder.name}/p_1.png", content=BLOCK)
    assert again.status_code == 201 and seen_by_ingest(folder) == ["p_1.png"]


def begin_put(files: Files, path: str, framing: str) -> http.client.HTTPSConnection:
    context: ssl.SSLContext = files.gateway.trust
    context.check_hostname = False  # the connection goes to the container's own address
    connection = http.client.HTTPSConnection(files.gateway.address, FILES, context=context)
    connection.putrequest("PUT", path, skip_host=True)
    request = httpx.Request("PUT", "https://x")
    next(ALICE.sync_auth_flow(request))
    connection.putheader("Host", files.gateway.host)
    connection.putheader("Authorization", request.headers["Authorization"])
    length = ("Content-Length", str(100 << 20))
    connection.putheader(*(length if framing == "length" else ("Transfer-Encoding", "chunked")))
    connection.endheaders()
    return connection


def chunk(connection: http.client.HTTPSConnection) -> Callable[[bytes], None]:
    return lambda block: connection.send(f"{len(block):x}\r\n".encode() + block + b"\r\n")


def announce(files: Files, folder: str, name: str, blocks: list[bytes]) -> httpx.Response:
    """As copyparty's own page does it: first the hashes of a file's blocks."""
    hashes = [urlsafe_b64encode(hashlib.sha512(block).digest()[:33]).decode() for block in blocks]
    size = sum(map(len, blocks))
    asked = {"name": name, "size": size, "lmod": 1, "life": 0, "hash": hashes}
    plain = {"Content-Type": "text/plain;charset=UTF-8"}
    words = json.dumps(asked).encode()
    answer = files.ask("POST", f"/nas/{folder}/", content=words, headers=plain)
    assert answer.status_code == 200, answer.text
    return answer


def send_block(files: Files, folder: str, upload: str, block: bytes) -> None:
    digest = urlsafe_b64encode(hashlib.sha512(block).digest()[:33]).decode()
    kind = {"Content-Type": "application/octet-stream"}
    kind |= {"X-Up2k-Hash": digest, "X-Up2k-Wark": upload}
    sent = files.ask("POST", f"/nas/{folder}/", content=block, headers=kind)
    assert sent.status_code == 200, sent.text


def test_an_upload_by_the_page_is_hidden_until_it_is_whole(files: Files) -> None:
    folder, blocks = files.share / "page", [BLOCK, BLOCK[::-1]]
    assert files.ask("MKCOL", "/nas/page").status_code == 201
    upload = announce(files, "page", "p.png", blocks).json()["wark"]
    for block in blocks:
        assert list(folder.iterdir()) != [] and seen_by_ingest(folder) == []
        send_block(files, "page", upload, block)
    assert [path.name for path in folder.iterdir()] == ["p.png"]
    assert (folder / "p.png").read_bytes() == b"".join(blocks)
    assert stat.S_IMODE((folder / "p.png").stat().st_mode) == 0o664


def test_an_upload_by_the_page_goes_on_after_a_restart_and_overwrites_nothing(files: Files) -> None:
    folder, blocks = files.share / "resumed", [BLOCK[1:] + b"r", BLOCK[2:] + b"rr"]
    assert files.ask("MKCOL", "/nas/resumed").status_code == 201
    upload = announce(files, "resumed", "p.png", blocks).json()["wark"]
    send_block(files, "resumed", upload, blocks[0])
    docker("restart", "--time", "20", files.container.name)
    files.container.wait_until("healthy", 30.0)
    assert seen_by_ingest(folder) == []
    (folder / "p.png").write_text("dropped on the NAS meanwhile")
    again = announce(files, "resumed", "p.png", blocks).json()
    assert len(again["hash"]) == 1, "the block that had arrived is not asked for again"
    send_block(files, "resumed", again["wark"], blocks[1])
    assert (folder / "p.png").read_text() == "dropped on the NAS meanwhile"
    (other,) = set(seen_by_ingest(folder)) - {"p.png"}
    assert (folder / other).read_bytes() == b"".join(blocks)


def test_a_form_upload_arrives_whole(files: Files) -> None:
    assert files.ask("MKCOL", "/nas/form").status_code == 201
    with httpx.Client() as made:
        request = made.build_request(
            "POST", "https://x", data={"act": "bput"}, files={"f": ("f.png", BLOCK)}
        )
    kind = {"Content-Type": request.headers["Content-Type"]}
    answer = files.ask("POST", "/nas/form/", content=request.read(), headers=kind)
    assert answer.status_code in (200, 201), answer.text
    path = files.share / "form" / "f.png"
    assert path.read_bytes() == BLOCK and stat.S_IMODE(path.stat().st_mode) == 0o664
    assert [one.name for one in path.parent.iterdir()] == ["f.png"]


def test_outside_of_it_no_secret_is_seen(files: Files) -> None:
    lines = (files.share.parent / "secrets" / "files-lite-accounts").read_text().splitlines()
    values = [line.partition(": ")[2] for line in lines if not line.startswith("#")]
    values += ["a long password", "another one"]
    top = docker("top", files.container.name, "-eo", "pid,args")
    seen = str(files.container.inspect()) + files.container.logs() + top
    assert not [value for value in values if value in seen]
    assert "la_1.png" not in files.container.logs(), "names of files may be names of patients"


def test_it_knows_the_marker_of_the_share(files: Files) -> None:
    marker = files.share / MARKER
    marker.rename(files.share / "away")
    try:
        files.container.wait_until("unhealthy", 20.0)
        assert "no marker file" in files.container.reason()
    finally:
        (files.share / "away").rename(marker)
    files.container.wait_until("healthy", 20.0)
