"""Asks a server's /health every 20 ms: `python bench/probe.py PORT PATH SECONDS`.

A process of its own, so that no other work of a benchmark delays its clock.
"""

import http.client
import json
import sys
import time

EVERY_S = 0.02


def probe(port: int, path: str, seconds: float) -> list[float]:
    """Milliseconds of each answer, a new connection for each as Label Studio makes them."""
    took_ms: list[float] = []
    end = time.perf_counter() + seconds
    while (start := time.perf_counter()) < end:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("GET", path)
        connection.getresponse().read()
        connection.close()
        took_ms.append(1e3 * (time.perf_counter() - start))
        time.sleep(EVERY_S)
    return took_ms


if __name__ == "__main__":
    print(json.dumps(probe(int(sys.argv[1]), sys.argv[2], float(sys.argv[3]))))
