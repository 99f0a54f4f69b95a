"""Which images of former versions may go."""

from pathlib import Path

from stack.engine.old_images import OwnImage, old_tags, prune, sizes
from tests.stack.engine.programs import calls, fake_docker


def image(service: str, tag: str, created: str) -> OwnImage:
    return OwnImage(f"labloop/{service}:{tag}", f"sha256:{service}{tag}", created, "1GB")


IMAGES = [
    image(service, tag, created)
    for tag, created in (("1-a", "2026-01"), ("1-b", "2026-02"), ("1-c", "2026-03"))
    for service in ("ingest", "trainer")
]


def test_the_current_tag_and_the_one_before_stay() -> None:
    assert {one.tag for one in old_tags(IMAGES, "1-c", set())} == {"1-a"}
    assert {one.tag for one in old_tags(IMAGES, "1-c", set(), kept=1)} == {"1-a", "1-b"}


def test_after_a_roll_back_the_newer_one_stays() -> None:
    assert {one.tag for one in old_tags(IMAGES, "1-a", set())} == {"1-b"}


def test_a_tag_that_is_yet_to_be_built_takes_a_place() -> None:
    assert {one.tag for one in old_tags(IMAGES, "1-d", set())} == {"1-a", "1-b"}


def test_what_a_container_was_made_from_stays() -> None:
    used = {"labloop/ingest:1-a", "sha256:trainer1-a"}
    assert old_tags(IMAGES, "1-c", used) == []


def test_only_what_is_old_is_removed(tmp_path: Path) -> None:
    line = '{{"Repository":"{}","Tag":"{}","ID":"sha256:{}","CreatedAt":"{}","Size":"1GB"}}'
    rows = [("labloop/ingest", tag, tag, tag) for tag in ("1-a", "1-b", "1-c")]
    rows += [("labloop/ingest", "<none>", "x", "0"), ("labloop/deepo", "cu13", "y", "0")]
    text = "\n".join(line.format(*row) for row in rows)
    script = f"case \"$1 $2\" in 'image ls') cat <<'E'\n{text}\nE\n;; esac"
    gone = prune(fake_docker(tmp_path, script), "labloop", "1-c")
    assert [one.name for one in gone] == ["labloop/ingest:1-a"]
    assert [call for call in calls(tmp_path) if " rm " in call] == ["image rm labloop/ingest:1-a"]
    assert sizes(gone) == "1 images of 1-a" and sizes([]) == "nothing to remove"
