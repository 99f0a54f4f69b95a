from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from imaging.dataset.folds import Split, assign, folds, regrouped
from imaging.task import SplitPolicy

POLICY = SplitPolicy(held_out=0.2, validation=0.15, seed=3)
names = st.integers(0, 10_000).map(lambda number: f"p-{number}")
classes = st.sets(st.sampled_from(["", "a", "b", "c"]), max_size=3)
crowds = st.dictionaries(names, classes, min_size=1, max_size=120)
policies = st.builds(
    SplitPolicy,
    held_out=st.floats(0, 0.8),
    validation=st.floats(0, 0.8),
    seed=st.integers(0, 2**31),
)


@given(crowds, crowds, policies)
def test_growth_never_moves_anybody(
    first: dict[str, set[str]], more: dict[str, set[str]], policy: SplitPolicy
) -> None:
    before = assign(first, {}, policy)
    after = assign(first | more, before, policy)
    assert after.keys() == first.keys() | more.keys()
    assert {name: after[name] for name in before} == before


@given(crowds, policies)
def test_patients_whose_labels_vanished_stay_assigned(
    crowd: dict[str, set[str]], policy: SplitPolicy
) -> None:
    before = assign(crowd, {}, policy)
    assert assign({}, before, policy) == before


def test_a_new_pseudonym_stays_on_the_side_of_its_cases() -> None:
    sides: dict[str, Split] = {"case-1": "test", "case-2": "train"}
    placed = regrouped({"p-1": "test"}, sides, {"case-1": "p-9", "case-2": "p-8", "case-3": "p-7"})
    assert placed == {"p-1": "test", "p-9": "test", "p-8": "train"}


def test_a_patient_who_turns_out_to_have_trained_is_no_longer_held_out() -> None:
    sides: dict[str, Split] = {"case-1": "test", "case-2": "validation"}
    patients = {"case-1": "p-1", "case-2": "p-1"}
    assert regrouped({"p-1": "test"}, sides, patients) == {"p-1": "validation"}


@given(crowds, policies, st.randoms())
def test_the_order_in_which_patients_are_listed_does_not_matter(
    crowd: dict[str, set[str]], policy: SplitPolicy, random: object
) -> None:
    listed = list(crowd.items())
    random.shuffle(listed)  # type: ignore[attr-defined]
    assert assign(dict(listed), {}, policy) == assign(crowd, {}, policy)


@given(crowds, policies)
def test_small_sets_train_first_and_then_hold_somebody_out(
    crowd: dict[str, set[str]], policy: SplitPolicy
) -> None:
    sizes = Counter(assign(crowd, {}, policy).values())
    assert sizes["train"] >= 1
    if len(crowd) >= 3:
        assert (sizes["test"] > 0) == (policy.held_out > 0)
    if len(crowd) >= 4:
        assert (sizes["validation"] > 0) == (policy.validation > 0)


@settings(max_examples=30)
@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=6),
    st.floats(0.05, 0.4),
    st.floats(0.05, 0.4),
    st.integers(0, 2**31),
)
def test_shares_approach_their_targets_however_the_set_grew(
    steps: list[int], held_out: float, validation: float, seed: int
) -> None:
    policy = SplitPolicy(held_out, validation, seed)
    placed: dict[str, Split] = {}
    total = 0
    for step in [*steps, 200]:
        crowd = {f"p-{number}": {"ab"[number % 2]} for number in range(total, total + step)}
        placed = assign(crowd, placed, policy)
        total += step
    sizes = Counter(placed.values())
    assert abs(sizes["test"] - held_out * total) <= 2
    assert abs(sizes["validation"] - validation * total) <= 2


def test_a_rare_class_is_held_out_in_proportion() -> None:
    crowd = {f"p-{number}": {"rare" if number % 10 == 0 else "common"} for number in range(200)}
    placed = assign(crowd, {}, POLICY)
    rare = Counter(placed[name] for name, shown in crowd.items() if shown == {"rare"})
    assert rare == {"train": 13, "test": 4, "validation": 3}


def test_another_seed_holds_out_other_patients() -> None:
    crowd: dict[str, set[str]] = {f"p-{number}": set() for number in range(50)}
    one, other = (assign(crowd, {}, SplitPolicy(seed=seed)) for seed in (1, 2))
    assert {name for name in one if one[name] == "test"} != {
        name for name in other if other[name] == "test"
    }


@given(crowds, policies)
def test_folds_keep_patients_apart_and_the_held_out_outside(
    crowd: dict[str, set[str]], policy: SplitPolicy
) -> None:
    placed = assign(crowd, {}, policy)
    insiders = {name for name, split in placed.items() if split != "test"}
    made = folds(placed, policy.seed)
    assert made[0].validation == {name for name in placed if placed[name] == "validation"}
    for fold in made:
        assert fold.train | fold.validation == insiders
        assert not fold.train & fold.validation
    validated = Counter(name for fold in made for name in fold.validation)
    assert set(validated.values()) <= {1}


@given(crowds, crowds)
def test_folds_never_change_side_when_the_set_grows(
    first: dict[str, set[str]], more: dict[str, set[str]]
) -> None:
    before = assign(first, {}, POLICY)
    after = assign(first | more, before, POLICY)
    side = {name: fold.validation for fold in folds(after, 0) for name in fold.validation}
    for fold in folds(before, 0):
        for name in fold.validation:
            assert fold.validation <= side[name]
