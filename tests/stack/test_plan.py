"""Decisions about starting, stopping and starting again."""

from hypothesis import given
from hypothesis import strategies as st

from stack.compose import Condition, HealthCheck, LocalService, Service
from stack.plan import (
    FAILING_DEATHS,
    LONGEST_PAUSE_S,
    REMEMBER_S,
    Deaths,
    Start,
    State,
    after_death,
    in_start_order,
    may_start,
    plan_down,
    plan_up,
)


def service(name: str, **depends_on: Condition) -> Service:
    return Service(name, {}, depends_on, LocalService("labloop", ("run",), HealthCheck(())))


SHOP = (
    service("till", shelf="service_healthy", door="service_started"),
    service("shelf", door="service_started"),
    service("door"),
)


def test_dependencies_start_first() -> None:
    assert [step.service for step in plan_up(SHOP, frozenset())] == ["door", "shelf", "till"]


def test_what_runs_is_not_started_again() -> None:
    assert [step.service for step in plan_up(SHOP, frozenset({"door", "till"}))] == ["shelf"]


def test_dependents_stop_before_what_they_need() -> None:
    steps = plan_down(SHOP, frozenset({"door", "till", "shelf"}))
    assert [step.service for step in steps] == ["till", "shelf", "door"]
    assert {step.service: step.after for step in steps} == {
        "till": frozenset(),
        "shelf": {"till"},
        "door": {"till", "shelf"},
    }


@given(st.lists(st.sets(st.integers(0, 7)), min_size=1, max_size=8))
def test_every_order_respects_every_dependency(needs: list[set[int]]) -> None:
    # A service may only need earlier ones, so there is no circle; the file's order is reversed.
    services = [
        service(f"s{number}", **{f"s{n}": "service_started" for n in needed if n < number})
        for number, needed in enumerate(needs)
    ][::-1]
    order = [one.name for one in in_start_order(services)]
    assert sorted(order) == sorted(one.name for one in services)
    for one in services:
        assert all(order.index(name) < order.index(one.name) for name in one.depends_on)


def test_a_step_waits_for_health_only_where_it_says_so() -> None:
    step = Start("till", {"shelf": "service_healthy", "door": "service_started"})
    states: dict[str, State] = {"shelf": "healthy", "door": "unhealthy"}
    assert may_start(step, states)
    assert not may_start(step, states | {"shelf": "starting"})
    assert not may_start(step, states | {"door": "restarting"})


def die_often(count: int, every_s: float, lived_s: float = 0.0) -> list[tuple[float, bool]]:
    deaths, answers, now_s = Deaths(), [], 0.0
    for _ in range(count):
        retry = after_death(deaths, now_s=now_s, lived_s=lived_s, exit_code=1)
        answers.append((retry.pause_s, retry.failing))
        deaths, now_s = retry.deaths, now_s + every_s
    return answers


def test_pauses_double_and_a_service_that_keeps_dying_is_failing() -> None:
    answers = die_often(6, every_s=20.0)
    assert [pause_s for pause_s, _ in answers[:4]] == [1.0, 2.0, 4.0, 8.0]
    assert [failing for _, failing in answers] == [False] * (FAILING_DEATHS - 1) + [True] * 2
    assert answers[-1][0] == LONGEST_PAUSE_S


def test_rare_deaths_are_forgiven() -> None:
    assert die_often(50, every_s=3600.0, lived_s=3600.0) == [(1.0, False)] * 50


def test_a_service_that_dies_every_minute_is_reported_however_well_it_lived_between() -> None:
    answers = die_often(6, every_s=62.0, lived_s=61.0)
    assert [failing for _, failing in answers] == [False] * (FAILING_DEATHS - 1) + [True] * 2
    assert {pause_s for pause_s, failing in answers if not failing} == {1.0}


def test_deaths_are_counted_for_an_hour() -> None:
    deaths = Deaths()
    for minute in range(0, 120, 10):
        now_s = 60.0 * minute
        deaths = after_death(deaths, now_s=now_s, lived_s=599.0, exit_code=1).deaths
    assert deaths.within(REMEMBER_S, now_s) == len(deaths.times) == 6
    assert deaths.within(REMEMBER_S, now_s + 3000.0) == 1


def test_deaths_spread_over_hours_are_not_failing_but_wait_longest() -> None:
    assert die_often(9, every_s=400.0)[-1] == (LONGEST_PAUSE_S, False)


def test_wrong_settings_fail_at_once() -> None:
    retry = after_death(Deaths(), now_s=0.0, lived_s=0.3, exit_code=2)
    assert (retry.failing, retry.pause_s) == (True, LONGEST_PAUSE_S)
