from datetime import UTC, datetime, time, timedelta

import pytest

from imaging.task import RetrainPolicy
from services.watchdog.policy import Standing, decide, is_within

NOW = datetime(2026, 3, 14, 12, 0, tzinfo=UTC)
POLICY = RetrainPolicy(min_new_labels=20, quiet_s=60, cooldown_s=600)


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def test_enough_quiet_labels_ask_for_a_run() -> None:
    decision = decide(Standing(20, ago(60), ago(600), ""), POLICY, NOW)
    assert decision.ask and decision.message == "20 new labels"
    assert decide(Standing(20, None, None, ""), POLICY, NOW).ask


@pytest.mark.parametrize(
    ("standing", "message", "again_in_s"),
    [
        (Standing(12, ago(99), None, ""), "12 of 20 new labels", None),
        (Standing(20, ago(31), None, ""), "quiet for 31 of 60 s", 29),
        (Standing(20, ago(99), ago(500), ""), "500 of 600 s since the last request", 100),
        (Standing(99, ago(99), ago(99), "run-1 is training"), "run-1 is training", None),
    ],
)
def test_what_is_missing_is_said(
    standing: Standing, message: str, again_in_s: float | None
) -> None:
    decision = decide(standing, POLICY, NOW)
    assert not decision.ask
    assert (decision.message, decision.again_in_s) == (message, again_in_s)


def test_outside_of_the_hours_nothing_is_asked() -> None:
    policy = RetrainPolicy(min_new_labels=1, hours="20:00-06:00")
    decision = decide(Standing(5, ago(99), None, ""), policy, NOW)
    assert not decision.ask and "20:00-06:00" in decision.message
    assert decide(Standing(5, ago(99), None, ""), policy, NOW.replace(hour=5)).ask


def test_a_moment_in_the_future_is_not_waited_for() -> None:
    assert decide(Standing(20, ago(-3600), ago(-1), ""), POLICY, NOW).ask


@pytest.mark.parametrize(
    ("hours", "inside", "outside"),
    [
        ("08:00-18:00", ["08:00", "17:59"], ["07:59", "18:00"]),
        ("20:00-06:00", ["20:00", "23:59", "00:00", "05:59"], ["06:00", "19:59"]),
        ("00:00-24:00", ["00:00", "23:59"], []),
        ("18:00-24:00", ["18:00", "23:59"], ["00:00", "17:59"]),
        ("09:00-09:00", ["00:00", "09:00"], []),
    ],
)
def test_hours_may_span_midnight(hours: str, inside: list[str], outside: list[str]) -> None:
    assert all(is_within(hours, time.fromisoformat(one)) for one in inside)
    assert not any(is_within(hours, time.fromisoformat(one)) for one in outside)
