"""A release is whole or refused, and what is live can be changed and changed back."""

import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from features.errors import ReleaseError
from recsys.releases import Releases
from tests.recsys.release_fixtures import built, manifest, published


@pytest.fixture
def releases(tmp_path: Path) -> Releases:
    return Releases(tmp_path / "releases")


def test_before_the_first_release_there_is_none(releases: Releases) -> None:
    assert releases.current() is None
    assert releases.previous() is None
    assert releases.list() == ()


def test_a_published_release_is_live_and_says_what_it_is(releases: Releases) -> None:
    folder = built(releases, "r1")
    assert releases.publish(folder, manifest("r1")) == "r1"

    assert releases.current() == "r1"
    assert not folder.exists()
    found = releases.verify("r1")
    assert sorted(found.files) == ["items.parquet", "ranker/model.npy"]
    assert found.model_copy(update={"files": {}}) == manifest("r1")
    assert (releases.path("r1") / "ranker" / "model.npy").read_text() == "weights"


def test_releases_are_listed_newest_first_and_rolled_back_and_forward(releases: Releases) -> None:
    published(releases, "b", "a", "c")
    assert releases.list() == ("c", "a", "b")
    assert (releases.current(), releases.previous()) == ("c", "a")

    releases.activate("a")
    assert (releases.current(), releases.previous()) == ("a", "c")
    releases.activate("a")
    assert (releases.current(), releases.previous()) == ("a", "c")
    releases.activate("c")
    assert (releases.current(), releases.previous()) == ("c", "a")


def test_a_release_killed_before_the_pointer_moved_was_never_live(releases: Releases) -> None:
    published(releases, "old")
    pointer = releases.root / "CURRENT"
    text, before_ns = pointer.read_text(), pointer.stat().st_mtime_ns
    time.sleep(0.02)  # longer than the clock of a file system ticks
    published(releases, "new")
    assert releases.was_live("new")
    pointer.write_text(text)
    os.utime(pointer, ns=(before_ns, before_ns))
    assert not releases.was_live("new")
    releases.activate("new")
    releases.activate("old")
    assert releases.was_live("new")


def test_pruning_never_removes_the_live_release_nor_the_one_before(releases: Releases) -> None:
    published(releases, "r1", "r2", "r3", "r4", "r5")
    releases.activate("r1")  # previous is now r5
    assert releases.prune(keep=2, besides=["r3"]) == ("r2",)
    assert releases.prune(keep=2) == ("r3",)
    assert releases.list() == ("r5", "r4", "r1")
    assert releases.prune(keep=0) == ("r4",)
    assert releases.list() == ("r5", "r1")
    assert not list(releases.root.glob(".removed-*"))


def _append(path: Path) -> None:
    path.write_text(path.read_text() + "x")


def _flip(path: Path) -> None:
    path.write_text("W" + path.read_text()[1:])


def _link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/hostname")


@pytest.mark.parametrize(
    ("harm", "name", "message"),
    [
        (_flip, "ranker/model.npy", "found SHA-256 .* expected"),
        (_append, "ranker/model.npy", "found 3 bytes, expected 2 bytes"),
        (lambda path: path.write_text(""), "ranker/model.npy", "found 0 bytes, expected 2 bytes"),
        (lambda path: path.unlink(), "ranker/model.npy", "found none, expected a file"),
        (lambda path: path.write_text(""), "new.npy", "found a file, expected none"),
        (_link, "ranker/model.npy", "found a link or special file"),
    ],
)
def test_a_damaged_release_is_refused_with_the_file_and_the_difference(
    releases: Releases, harm: Callable[[Path], None], name: str, message: str
) -> None:
    published(releases, "r1", "r2")
    releases.activate("r1")
    harm(releases.path("r2") / name)

    with pytest.raises(ReleaseError, match=f"r2, {name}: {message}.* activate another release"):
        releases.activate("r2")
    assert releases.current() == "r1"


def _edited(releases: Releases, change: Callable[[dict[str, object]], object]) -> None:
    path = releases.path("r1") / "manifest.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


RECORD = {"size": 1, "sha256": "0" * 64}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(colour="red"), "Extra inputs are not permitted \\(colour\\)"),
        (lambda m: m["event_types"][0].update(x=1), "Unexpected keyword|Extra inputs|unexpected"),
        (lambda m: m.pop("created_at_us"), "Field required \\(created_at_us\\)"),
        (lambda m: m.update(release_id="r9"), "found release r9, expected r1"),
        (lambda m: m["metrics"].update(x="NaN"), "finite number"),
        (lambda m: m["files"].update({"../r2/x": RECORD}), "expected one inside the release"),
        (lambda m: m["files"].update({"/etc/passwd": RECORD}), "expected one inside the release"),
        (lambda m: m["files"].update({"a/../b": RECORD}), "expected one inside the release"),
        (lambda m: m["files"].update({"a//b": RECORD}), "expected one inside the release"),
        (lambda m: m["files"].update({"manifest.json": RECORD}), "inside the release"),
    ],
)
def test_a_manifest_that_says_what_it_must_not_is_refused(
    releases: Releases, change: Callable[[dict[str, object]], object], message: str
) -> None:
    published(releases, "r1")
    _edited(releases, change)
    with pytest.raises(ReleaseError, match=message):
        releases.verify("r1")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"release_id": "r1"', "\x00"])
def test_a_truncated_manifest_is_refused_and_its_release_still_listed(
    releases: Releases, content: str
) -> None:
    published(releases, "r1", "r2")
    (releases.path("r1") / "manifest.json").write_text(content)
    with pytest.raises(ReleaseError, match=r"r1, manifest\.json"):
        releases.verify("r1")
    assert releases.list() == ("r2", "r1")


@pytest.mark.parametrize("content", ["", "../../etc\n", "\ufffd\n", "a b"])
def test_a_damaged_pointer_is_reported_and_mended_by_activating(
    releases: Releases, content: str
) -> None:
    published(releases, "r1")
    (releases.root / "CURRENT").write_text(content)
    with pytest.raises(ReleaseError, match="Activate a release"):
        releases.current()
    with pytest.raises(ReleaseError, match="Activate a release"):
        releases.prune(keep=0)
    releases.activate("r1")
    assert releases.current() == "r1"


@pytest.mark.parametrize("release_id", ["", ".", "..", "../r1", "a/b", ".hidden", "CURRENT", "é"])
def test_an_id_that_is_no_plain_folder_name_is_refused(releases: Releases, release_id: str) -> None:
    for ask in (releases.draft, releases.path, releases.manifest, releases.activate):
        with pytest.raises(ReleaseError, match="cannot be used"):
            ask(release_id)


def test_an_unknown_release_is_named_together_with_the_known_ones(releases: Releases) -> None:
    published(releases, "r1")
    with pytest.raises(ReleaseError, match=r"r7 does not exist .* found: r1"):
        releases.activate("r7")


def test_an_empty_or_missing_folder_is_not_published(releases: Releases) -> None:
    with pytest.raises(ReleaseError, match="found no files"):
        releases.publish(releases.draft("r1"), manifest("r1"))
    with pytest.raises(ReleaseError, match="No such file"):
        releases.publish(releases.root / "nowhere", manifest("r2"))
    assert releases.list() == ()


def test_a_release_that_cannot_go_live_is_taken_back(releases: Releases) -> None:
    folder = built(releases, "r1")
    (releases.root / "CURRENT").mkdir()  # cannot be replaced by a file
    with pytest.raises(ReleaseError, match="Could not publish r1"):
        releases.publish(folder, manifest("r1"))
    assert not (releases.root / "r1").exists()
    assert sorted(path.name for path in folder.iterdir()) == ["items.parquet", "ranker"]


def test_a_published_release_never_changes(releases: Releases) -> None:
    published(releases, "r1", "r2")
    with pytest.raises(ReleaseError, match=r"already published with another ranker/model\.npy"):
        releases.publish(built(releases, "r1", "other"), manifest("r1"))
    assert releases.current() == "r2"
    releases.publish(built(releases, "r1", "r1"), manifest("r1"))  # the same again is fine
    assert releases.current() == "r1"


def test_readers_meet_only_whole_releases_while_others_are_published(releases: Releases) -> None:
    published(releases, "r0")
    done = threading.Event()
    seen: set[str] = set()
    failures: list[Exception] = []

    def read() -> None:
        while not done.is_set():
            try:
                live = releases.current()
                assert live is not None
                found = releases.verify(live)
                assert (releases.path(live) / "ranker/model.npy").read_text() == found.release_id
                seen.add(live)
            except Exception as error:  # noqa: BLE001  any failure at all fails the test below
                failures.append(error)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    published(releases, *(f"r{n}" for n in range(1, 40)))
    done.set()
    for reader in readers:
        reader.join()
    assert not failures
    assert len(seen) > 1
