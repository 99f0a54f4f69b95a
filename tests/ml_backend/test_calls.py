import json

import pytest

from ml_backend.calls import parse_predict
from ml_backend.errors import BadCallError


def test_a_call_names_its_tasks_in_order() -> None:
    tasks = [{"id": 4, "data": {"image": "x"}, "meta": {}}, {"data": {}}]
    call = parse_predict(json.dumps({"tasks": tasks, "params": {"context": None}}).encode())
    assert [(task.id, dict(task.data)) for task in call.tasks] == [(4, {"image": "x"}), (None, {})]
    assert not call.interactive


def test_a_call_with_a_context_comes_from_an_open_editor() -> None:
    body = {"tasks": [{"id": 1, "data": {}}], "params": {"context": {"result": []}}}
    assert parse_predict(json.dumps(body).encode()).interactive


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b"", "no JSON"),
        (b"\xff\xfe\x00", "no JSON"),
        (b"{", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"1" * 5000, "no JSON"),
        (b"[]", "a list of 0"),
        (b"null", "NoneType"),
        (b"{}", "tasks is NoneType"),
        (b'{"tasks": {}}', "tasks is a dict of 0"),
        (b'{"tasks": [1]}', r"tasks\[0\] is int"),
        (b'{"tasks": [{"id": 1}]}', r"tasks\[0\] is a dict of 1"),
        (b'{"tasks": [{"id": 1, "data": []}]}', r"tasks\[0\]"),
        (b'{"tasks": [], "params": []}', None),
        (b'{"tasks": [], "params": [1]}', "params is a list of 1"),
    ],
)
def test_what_label_studio_does_not_send_is_refused_in_words(
    body: bytes, found: str | None
) -> None:
    if found is None:
        assert parse_predict(body).tasks == ()
        return
    with pytest.raises(BadCallError, match=found):
        parse_predict(body)
