"""Our back end beside one in the style of label-studio-ml: `python -m bench.serving [--quick]`.

Both serve the same weights for the same pictures of 512 × 512 in turn, so that a busy machine
slows both: ten clients at once, each with one request after the other. Then how long /health takes
while ten predictions are computed, and where the time of a single request goes.
"""

import argparse
import contextlib
import http.client
import http.server
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from bench.peer_backend import Peer
from bench.serving_lab import SIDE, TASK, build_share, repeat_cases
from imaging.io.picture import read_picture
from imaging.layout import Nas
from imaging.model.bundle import OPENVINO_MODEL
from imaging.model.openvino import OpenVinoModel
from imaging.model.predict import Predictor, mask_confidence
from imaging.model.transforms import crop, likeliest, preprocess
from imaging.registry import champion
from ml_backend.answers import NO_MODEL, encoded, entry
from ml_backend.lanes import cores
from ml_backend.load import Loader
from ml_backend.pictures import local_path

ROOT = Path(__file__).resolve().parents[1]
CLIENTS = 10
REQUIRED_RATIO = 2.0
HEALTH_LIMIT_MS = 50.0
TOKEN = "bench-token"
SINGLE_REQUESTS = 15  # of which the breakdown shows medians
STAGES = ("fetch", "decode", "prepare", "network", "labels", "regions", "JSON")


@dataclass(frozen=True, slots=True)
class Server:
    """A running back end."""

    name: str
    port: int
    path: str  # before /predict
    pid: int


@dataclass(frozen=True, slots=True)
class Round:
    """What ten clients saw."""

    per_s: float
    latencies_ms: tuple[float, ...]
    cpu_ms: float  # of the server's processes, for each request; hardly minds a busy machine


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer requests and rounds")
    parser.add_argument("--side", type=int, default=SIDE, help="side of the network's input")
    options = parser.parse_args()
    per_client, rounds = (3, 2) if options.quick else (6, 5)
    with contextlib.ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="labloop-bench-")))
        print("making phantoms and a network, about a minute …", flush=True)
        nas = build_share(root / "nas", CLIENTS * per_client, options.side)
        pictures_url = stack.enter_context(picture_server(nas))
        ours = stack.enter_context(our_server(root, nas))
        peer = stack.enter_context(peer_server(nas, pictures_url))
        ratio = compare(nas, (ours, peer), rounds)
        health_ms = health_under_load(nas, ours)
        break_down(nas, pictures_url)
    good = ratio >= REQUIRED_RATIO and health_ms <= HEALTH_LIMIT_MS
    print(
        f"\n{'good' if good else 'FAILED'}: {ratio:.2f} times the peer's requests per second "
        f"(at least {REQUIRED_RATIO:g}); /health p99 {health_ms:.0f} ms under load "
        f"(at most {HEALTH_LIMIT_MS:g})"
    )
    return 0 if good else 1


# --- servers ----------------------------------------------------------------------------------


@contextlib.contextmanager
def our_server(root: Path, nas: Nas) -> Iterator[Server]:
    """`python -m ml_backend` over the share; its Label Studio is not there."""
    port = free_port()
    (root / "token").write_text(TOKEN)
    settings = {
        "NAS_ROOT": str(nas.root),
        "HEARTBEAT_FILE": str(root / "heartbeat"),
        "LABEL_STUDIO_URL": "http://127.0.0.1:9",
        "LABEL_STUDIO_TOKEN_FILE": str(root / "token"),
        "ML_BACKEND_PORT": str(port),
        "ML_BACKEND_TOKEN_FILE": str(root / "token"),
        "LOG_LEVEL": "ERROR",
    }
    with child([sys.executable, "-m", "ml_backend"], settings) as pid:
        server = Server("labloop", port, f"/{TASK}", pid)
        wait_for(lambda: call(server, "/setup", {})["model_version"] != NO_MODEL)
        yield server


@contextlib.contextmanager
def peer_server(nas: Nas, pictures_url: str) -> Iterator[Server]:
    """The peer under gunicorn, started as label-studio-ml-backend's Dockerfile does."""
    port = free_port()
    settings = {"PEER_BUNDLE": str(model_folder(nas)), "PEER_PICTURES_URL": pictures_url}
    command = [sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{port}", "--workers", "1"]
    command += ["--threads", "8", "--timeout", "0", "--log-level", "error"]
    with child([*command, "bench.peer_backend:create_app()"], settings) as pid:
        server = Server("peer", port, "", pid)
        wait_for(lambda: bool(call(server, "/setup", {})["model_version"]))
        yield server


@contextlib.contextmanager
def picture_server(nas: Nas) -> Iterator[str]:
    """Hands out the share's files as Label Studio's /data/local-files/ does, only faster."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            data = (nas.root / parse_qs(urlsplit(self.path).query)["d"][0]).read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()


@contextlib.contextmanager
def child(command: Sequence[str], settings: dict[str, str]) -> Iterator[int]:
    process = subprocess.Popen(command, cwd=ROOT, env=os.environ | settings)
    try:
        yield process.pid
    finally:
        process.terminate()
        process.wait(30)


def cpu_s(pid: int) -> float:
    """Processor time of a process and its children so far."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    own_s = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return own_s + sum(cpu_s(int(one)) for one in children)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def wait_for(is_ready: Callable[[], bool], timeout_s: float = 120.0) -> None:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, http.client.HTTPException):
            if is_ready():
                return
        time.sleep(0.2)
    raise SystemExit(f"a server was not ready within {timeout_s:.0f} s")


def call(server: Server, route: str, body: object) -> Any:
    """What a server answers to one POST."""
    return json.loads(post(server, route, body))


def post(server: Server, route: str, body: object) -> bytes:
    """One POST on a connection of its own, as Label Studio makes them; the answer's bytes."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
    headers = {"Authorization": f"Token {TOKEN}", "Content-Type": "application/json"}
    connection.request("POST", server.path + route, json.dumps(body), headers)
    answer = connection.getresponse()
    data = answer.read()
    connection.close()
    if answer.status != 200:
        raise SystemExit(f"{server.name}: {route} answered {answer.status}: {data[:200]!r}")
    return data


# --- under load -------------------------------------------------------------------------------


def compare(nas: Nas, servers: tuple[Server, Server], rounds: int) -> float:
    """Our requests per second over the peer's: the median of the rounds."""
    ours, peer = servers
    table: dict[str, list[Round]] = {server.name: [] for server in servers}
    for number in range(rounds):
        for server in servers if number % 2 else servers[::-1]:
            # Twice, so that a round's first and last answers, with a core idle, weigh little.
            addresses = [
                address
                for half in "ab"
                for address in repeat_cases(nas, f"{server.name}-{number}{half}")
            ]
            table[server.name].append(run_clients(server, addresses))
    print(f"\n{CLIENTS} clients, {len(addresses)} requests a round, {rounds} rounds in turn")
    print(f"{'':10}{'requests/s':>12}{'p50 ms':>10}{'p95 ms':>10}{'first ms':>10}{'CPU ms':>10}")
    for name, seen in table.items():
        latencies = [ms for one in seen for ms in one.latencies_ms]
        first = statistics.median(min(one.latencies_ms) for one in seen)
        per_s = statistics.median(one.per_s for one in seen)
        p50, p95 = percentile(latencies, 0.5), percentile(latencies, 0.95)
        cpu_ms = statistics.median(one.cpu_ms for one in seen)
        print(f"{name:10}{per_s:12.1f}{p50:10.0f}{p95:10.0f}{first:10.0f}{cpu_ms:10.0f}")
    pairs = zip(table[ours.name], table[peer.name], strict=True)
    ratios = sorted(mine.per_s / theirs.per_s for mine, theirs in pairs)
    print("ratio in each round: " + " ".join(f"{ratio:.2f}" for ratio in ratios))
    return statistics.median(ratios)


def run_clients(server: Server, addresses: Sequence[str]) -> Round:
    """Ten clients share the addresses; each starts its next request when it has its answer."""

    def one_request(address: str) -> tuple[float, bytes]:
        start = time.perf_counter()
        data = post(server, "/predict", predict_body(address))
        return 1e3 * (time.perf_counter() - start), data

    start, cpu_start_s = time.perf_counter(), cpu_s(server.pid)
    with ThreadPoolExecutor(CLIENTS) as pool:
        answers = list(pool.map(one_request, addresses))
    took_s, used_s = time.perf_counter() - start, cpu_s(server.pid) - cpu_start_s
    # Read when the clock has stopped: in a lab the client's work is another machine's.
    for address, (_, data) in zip(addresses, answers, strict=True):
        (answer,) = json.loads(data)["results"]
        if not answer["result"]:
            raise SystemExit(f"{server.name} found nothing in {address}")
    latencies_ms = tuple(ms for ms, _ in answers)
    count = len(addresses)
    return Round(count / took_s, latencies_ms, 1e3 * used_s / count)


def health_under_load(nas: Nas, server: Server) -> float:
    """The 99th percentile of /health while ten predictions are in flight, in milliseconds."""
    addresses = repeat_cases(nas, "health")
    stop = threading.Event()

    def keep_busy(mine: Sequence[str]) -> None:
        while not stop.is_set():
            for address in mine:
                call(server, "/predict", predict_body(address))

    print("\n/health        p50 ms    p99 ms    max ms")
    for label, clients in (("idle", 0), ("10 in flight", CLIENTS)):
        with ThreadPoolExecutor(CLIENTS) as pool:
            for number in range(clients):
                pool.submit(keep_busy, addresses[number::CLIENTS])
            command = [sys.executable, "bench/probe.py", str(server.port), "/health", "15"]
            took_ms = json.loads(subprocess.check_output(command, cwd=ROOT))
            stop.set()
        p50, p99 = percentile(took_ms, 0.5), percentile(took_ms, 0.99)
        print(f"{label:12}{p50:10.1f}{p99:10.1f}{max(took_ms):10.1f}")
        stop.clear()
    return p99


def predict_body(address: str) -> dict[str, Any]:
    task = {"id": 1, "data": {"image": address}, "meta": {}, "annotations": [], "predictions": []}
    return {"tasks": [task], "project": "1.17", "label_config": "<View/>", "params": {}}


def percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


# --- one request ------------------------------------------------------------------------------


def break_down(nas: Nas, pictures_url: str) -> None:
    """Where a single request's time goes, stage by stage, in this process."""
    address = repeat_cases(nas, "alone")[0]
    folder = model_folder(nas)
    peer, ours = Peer(folder, pictures_url), Loader(cores())(folder)
    forward = OpenVinoModel(folder / OPENVINO_MODEL, cores(), cores())
    theirs = medians([peer_stages(peer, address) for _ in range(SINGLE_REQUESTS)])
    mine = medians([our_stages(ours, forward, nas, address) for _ in range(SINGLE_REQUESTS)])
    print(f"\none request alone, ms{'labloop':>12}{'peer':>10}")
    for name in (*STAGES, "total"):
        print(f"{name:21}{mine[name]:12.1f}{theirs[name]:10.1f}")


def our_stages(
    predictor: Predictor, forward: OpenVinoModel, nas: Nas, address: str
) -> dict[str, float]:
    clock = Clock()
    recipe = predictor.bundle.recipe.preprocessing
    path = clock("fetch", nas.root.joinpath, local_path(address))
    pixels = clock("decode", read_picture, path)
    image_CHW, placement = clock("prepare", preprocess, pixels, recipe)
    (output_KHW,) = clock("network", forward, image_CHW[None])
    inner_KHW = crop(output_KHW, placement)
    inner_HW = clock("labels", likeliest, inner_KHW)  # on the picture's own grid here
    clock("labels", mask_confidence, inner_KHW, inner_HW)
    (prediction,) = predictor.predict([pixels])
    answer = clock("regions", entry, predictor, prediction)
    clock("JSON", encoded, answer)
    return clock.took_ms


def peer_stages(peer: Peer, address: str) -> dict[str, float]:
    clock = Clock()
    data = clock("fetch", peer.fetch, address)
    pixels = clock("decode", peer.decode, data)
    image_BCHW = clock("prepare", peer.prepare, pixels)
    output_BKHW = clock("network", peer.compute, image_BCHW)
    labels_HW = clock("labels", peer.labels, output_BKHW)
    regions = clock("regions", peer.regions, labels_HW)
    clock("JSON", json.dumps, regions)
    return clock.took_ms


class Clock:
    """Calls functions and adds up what each stage took."""

    def __init__(self) -> None:
        self.took_ms = dict.fromkeys((*STAGES, "total"), 0.0)

    def __call__(self, stage: str, act: Callable[..., Any], *arguments: Any) -> Any:
        start = time.perf_counter()
        result = act(*arguments)
        took_ms = 1e3 * (time.perf_counter() - start)
        self.took_ms[stage] += took_ms
        self.took_ms["total"] += took_ms
        return result


def medians(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    return {name: statistics.median(row[name] for row in rows) for name in rows[0]}


def model_folder(nas: Nas) -> Path:
    serving = champion(nas, TASK)
    if serving is None:
        raise SystemExit("the benchmark's share has no champion")
    return serving.folder


if __name__ == "__main__":
    sys.exit(main())
