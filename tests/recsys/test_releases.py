"""A release is whole or absent, whatever happens while it is published."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from features.errors import ReleaseError
from features.events import DEFAULT_EVENT_TYPES
from recsys.releases import Manifest, Releases

REPOSITORY = Path(__file__).parents[2]


def manifest(release_id: str, created_at_us: int = 0) -> Manifest:
    return Manifest(
        release_id=release_id,
        created_at_us=created_at_us,
        data_start_us=1,
        data_end_us=2,
        feature_views_hash="f" * 8,
        event_types=DEFAULT_EVENT_TYPES,
        metrics={"ranker.ndcg@10": 0.125},
        versions={"numpy": "2.4.6"},
    )


def built(releases: Releases, release_id: str, text: str = "weights") -> Path:
    folder = releases.draft(release_id)
    (folder / "ranker").mkdir(exist_ok=True)
    (folder / "ranker" / "model.npy").write_text(text)
    (folder / "items.parquet").write_text("items")
    return folder


def published(releases: Releases, *release_ids: str) -> None:
    for age, release_id in enumerate(release_ids):
        releases.publish(built(releases, release_id, release_id), manifest(release_id, age))


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
    assert releases.prune(keep=2) == ("r3", "r2")
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


# Publishes over and over in a forked process that dies at its nth step on the disk, n = 1, 2, …:
# after each death a reader must find a whole release, and publishing again must succeed.
CRASHES = """
import os, shutil, sys
from pathlib import Path
from recsys.releases import Releases
from tests.recsys.test_releases import built, manifest, published

STEPS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree"}

def die_at(n):
    left = [n]
    def count(event, arguments):
        if event in STEPS:
            left[0] -= 1
            if left[0] == 0:
                os._exit(9)
    sys.addaudithook(count)

def work(releases):
    releases.publish(releases.draft("new"), manifest("new", 5))
    releases.prune(keep=2)

root = Path(sys.argv[1])
outcomes = []
for n in range(1, 200):
    releases = Releases(root / str(n))
    published(releases, "older", "old")
    built(releases, "new")
    child = os.fork()
    if child == 0:
        die_at(n)
        work(releases)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    live = releases.current()
    releases.verify(live)
    for name in releases.list():
        releases.verify(name)
    if releases.current() == "old":
        built(releases, "new")
        work(releases)
    assert releases.current() == "new", releases.current()
    releases.verify("new")
    releases.prune(keep=1)
    assert not list(releases.root.glob(".removed-*")) and releases.list() == ("new", "old")
    outcomes.append(live)
    if code == 0:
        break
print(code, len(outcomes), outcomes.count("old") > 5, outcomes.count("new") > 1)
"""


def _python(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_publication_killed_at_any_step_leaves_a_whole_release_live(tmp_path: Path) -> None:
    found = _python(CRASHES, tmp_path)
    assert found.returncode == 0, found.stderr
    code, _, some_before, some_after = found.stdout.split()
    assert (code, some_before, some_after) == ("0", "True", "True")


# No file may grow beyond 100 bytes: the manifest cannot be written, as on a full disk.
TOO_SMALL = """
import resource, sys
from pathlib import Path
from recsys.releases import Releases
from features.errors import ReleaseError
from tests.recsys.test_releases import manifest
releases = Releases(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
try:
    releases.publish(releases.draft("new"), manifest("new"))
except ReleaseError as error:
    print(error)
"""


def _assert_untouched(releases: Releases) -> None:
    assert releases.current() == "old"
    releases.verify("old")
    assert releases.list() == ("old",)
    assert sorted(path.name for path in releases.draft("new").rglob("*")) == [
        "items.parquet",
        "model.npy",
        "ranker",
    ]


def test_a_manifest_that_cannot_be_written_leaves_everything_as_it_was(releases: Releases) -> None:
    published(releases, "old")
    built(releases, "new")
    found = _python(TOO_SMALL, releases.root)
    assert "Could not publish new" in found.stdout, found.stderr
    _assert_untouched(releases)
    releases.publish(releases.draft("new"), manifest("new"))
    assert releases.current() == "new"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    if (
        not mount
        or subprocess.run(
            [mount, "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder],
            capture_output=True,
            check=False,
        ).returncode
    ):
        pytest.skip("mounting a small file system needs root")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_leaves_everything_as_it_was_and_says_what_to_do(small_disk: Path) -> None:
    releases = Releases(small_disk)
    published(releases, "old")
    built(releases, "new")
    filler = small_disk / ".filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4_096)):
            pass
    assert shutil.disk_usage(small_disk).free == 0

    with pytest.raises(
        ReleaseError, match=r"disk is full: free space .* live release is unchanged"
    ):
        releases.publish(releases.draft("new"), manifest("new"))
    _assert_untouched(releases)

    os.remove(filler)
    releases.publish(releases.draft("new"), manifest("new"))
    assert releases.current() == "new"


def test_a_folder_on_another_disk_is_refused_with_the_way_out(
    small_disk: Path, releases: Releases
) -> None:
    published(releases, "old")
    folder = small_disk / "new"
    folder.mkdir()
    (folder / "model.npy").write_text("weights")
    with pytest.raises(ReleaseError, match="build it in a draft"):
        releases.publish(folder, manifest("new"))
    assert releases.current() == "old"
    assert [path.name for path in folder.iterdir()] == ["model.npy"]
