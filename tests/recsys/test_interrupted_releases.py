"""A release is whole or absent, whatever happens to the process or the disk."""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from features.errors import ReleaseError
from recsys.releases import Releases
from tests.recsys.release_fixtures import built, manifest, published

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def releases(tmp_path: Path) -> Releases:
    return Releases(tmp_path / "releases")


# Publishes over and over in a forked process that dies at its nth step on the disk, n = 1, 2, …:
# after each death a reader must find a whole release, and publishing again must succeed.
CRASHES = """
import os, shutil, sys
from pathlib import Path
from recsys.releases import Releases
from tests.recsys.release_fixtures import built, manifest, published

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
from tests.recsys.release_fixtures import manifest
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
