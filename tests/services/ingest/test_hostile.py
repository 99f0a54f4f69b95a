"""Whatever is dropped, it ends in rejected/ with the right reason, and the loop goes on."""

import pytest

from services.ingest.reasons import REASONS
from services.ingest.reject import REASON_FILE
from tests.hostile import CORPUS, Hostile
from tests.services.ingest.conftest import Lab

CONFIG = {
    "segmentation": "kind: segmentation\nlabels: [heart]\n",
    "classification": "kind: classification\nlabels: [normal, pneumonia]\n",
}
GOOD = {"segmentation": "images/good.png", "classification": "normal/good.png"}


@pytest.mark.parametrize("hostile", CORPUS, ids=lambda hostile: hostile.name)
def test_is_refused_while_a_good_picture_is_taken(lab: Lab, hostile: Hostile) -> None:
    lab.configure(CONFIG[hostile.kind])
    hostile.build(lab.task.rawdata)
    lab.drop_picture(GOOD[hostile.kind], seed=1)
    lab.settle()
    assert hostile.reason in lab.refusals()
    assert (GOOD[hostile.kind] in lab.cases()) is not hostile.holds_others
    outside = lab.task.root / "outside" / "secret.png"
    assert not outside.exists() or outside.stat().st_size > 0
    # Nothing is lost: every refused file lies beside its reason.
    for reason in lab.task.rejected.glob(f"rej-*/{REASON_FILE}"):
        assert len(list(reason.parent.iterdir())) == 2
    assert not list(lab.task.cases.glob(".staging/*"))


def test_the_corpus_is_large_and_its_reasons_are_explained() -> None:
    assert len(CORPUS) >= 40
    assert len({hostile.name for hostile in CORPUS}) == len(CORPUS)
    assert {hostile.reason for hostile in CORPUS} <= set(REASONS)


def test_all_of_it_at_once_does_not_stop_the_loop(lab: Lab) -> None:
    """Without a task.yaml, too: what a task is, is guessed from what can be read."""
    for number, hostile in enumerate(CORPUS):
        if hostile.kind == "segmentation" and not hostile.holds_others:
            folder = lab.task.rawdata / f"batch{number}"
            folder.mkdir()
            hostile.build(folder)
    lab.drop_picture("images/good.png", seed=1)
    lab.settle()
    assert "images/good.png" in lab.cases()
    assert len(list(lab.task.rejected.glob("rej-*"))) >= 60
    assert lab.label_studio.task_of(lab.cases()["images/good.png"].case)
