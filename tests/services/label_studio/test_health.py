from services.label_studio.health import reason
from tests.fakes.receiver import receiver


def test_a_server_that_answers_is_healthy() -> None:
    with receiver(lambda request: (200, {"status": "UP"})) as server:
        assert reason(server.url) == ""
        assert server.paths() == ["/health"]


def test_the_reason_tells_what_was_found() -> None:
    with receiver(lambda request: (503, {})) as server:
        assert "503" in reason(server.url)
        server.answer = lambda request: (200, {"status": "DOWN"})
        assert "'DOWN'" in reason(server.url)
    assert "does not answer" in reason(server.url)
