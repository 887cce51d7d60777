"""The one place that knows how a release lies on disk, so that a reader never meets half of one.

    root/<release_id>/manifest.json   what the release is, and size and SHA-256 of every other file
    root/<release_id>/…               artifacts
    root/CURRENT                      first line: the live release; second: the one before it

A release folder is complete before it gets its name, by one rename, and never changes after. What
is live changes by replacing CURRENT. Names that begin with a dot are drafts and leftovers.
"""

import errno
import fcntl
import hashlib
import os
import re
import shutil
import stat
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from features.errors import ReleaseError
from features.events import EventType

MANIFEST = "manifest.json"
POINTER = "CURRENT"
HASHED_AT_ONCE = 2  # files: hashing lets other threads run, and a start waits for it
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")  # a folder name on every file system
_DAMAGED = "Do not serve it: activate another release, or run the night again."


class FileRecord(BaseModel):
    """What a file must be to be loaded."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int = Field(ge=0)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class Manifest(BaseModel):
    """What a release is made of and what it was made from; `files` is filled in by `publish`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    release_id: str
    created_at_us: int
    data_start_us: int  # learned from events in [start, end)
    data_end_us: int
    label_us: int | None = None  # where the ranker's labels began, and the trial
    evaluation_us: int | None = None
    catalogue_change: int = 0  # the store's item change number when the catalogue was read
    feature_views_hash: str
    event_types: tuple[EventType, ...]  # their order is the meaning of `history_types`
    steps: dict[str, str] = {}  # night step: digest of its inputs
    text: dict[str, JsonValue] = {}  # which encoder, item map and index, and why
    metrics: dict[str, float] = {}
    configs: dict[str, JsonValue] = {}  # trainer: its configuration
    policy: dict[str, JsonValue] = {}
    versions: dict[str, str] = {}  # library: version
    files: dict[str, FileRecord] = {}  # POSIX path relative to the release folder


class Releases:
    """All releases under one root; one writer at a time, any number of readers without a lock."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def current(self) -> str | None:
        """The live release; None before the first one. ReleaseError if CURRENT is damaged."""
        return (self._pointer() or (None, None))[0]

    def previous(self) -> str | None:
        """The release that was live before the current one: what a roll-back activates."""
        return (self._pointer() or (None, None))[1]

    def was_live(self, release_id: str) -> bool:
        """False for one whose publication was killed between its name and the pointer."""
        pointer, sealed = self.root / POINTER, self.path(release_id) / MANIFEST
        with _explained("read", release_id, self.root):
            # the manifest is the last file written before the name, the pointer comes after it
            return pointer.exists() and pointer.stat().st_mtime_ns >= sealed.stat().st_mtime_ns

    def list(self) -> tuple[str, ...]:
        """Every release, newest first; those without a readable manifest last."""
        if not self.root.is_dir():
            return ()
        ids = [entry.name for entry in self.root.iterdir() if entry.is_dir()]
        return tuple(sorted(filter(_ID.fullmatch, ids), key=self._age, reverse=True))

    def path(self, release_id: str) -> Path:
        """The release's folder; it exists, but only `verify` says that it is whole."""
        folder = self.root / _checked_id(release_id)
        if folder.is_symlink() or not folder.is_dir():
            found = ", ".join(self.list()[:5]) or "none"
            raise ReleaseError(
                f"Release {release_id} does not exist in {self.root}; found: {found}. "
                "Name one of these."
            )
        return folder

    def manifest(self, release_id: str) -> Manifest:
        path = self.path(release_id) / MANIFEST
        try:
            manifest = Manifest.model_validate_json(path.read_bytes())
        except OSError as error:
            raise _damaged(release_id, MANIFEST, error.strerror, "a readable file") from error
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the whole file"
            raise _damaged(
                release_id, MANIFEST, f"{first['msg']} ({where})", "a manifest of this version"
            ) from error
        if manifest.release_id != release_id:
            raise _damaged(release_id, MANIFEST, f"release {manifest.release_id}", release_id)
        return manifest

    def draft(self, release_id: str) -> Path:
        """A folder to build a release in: on the right file system, unseen by readers."""
        folder = self.root / ".drafts" / _checked_id(release_id)
        with _explained("prepare a draft of", release_id, self.root):
            folder.mkdir(parents=True, exist_ok=True)
        return folder

    def publish(self, folder: Path, manifest: Manifest) -> str:
        """Make the complete `folder` the live release; it moves, so it must be on root's disk.

        On ReleaseError `folder` is as it was, and the live release too. A publication that was
        killed half-way may be repeated.
        """
        release_id = manifest.release_id
        target = self.root / _checked_id(release_id)
        with _explained("publish", release_id, self.root), self._writing(), ExitStack() as undo:
            records = {name: _record(path) for name, path in _artifacts(release_id, folder).items()}
            if not records:
                raise _damaged(release_id, str(folder), "no files", "a complete release")
            if target.exists():
                self._require_equal(release_id, records)
                shutil.rmtree(folder)
            else:
                undo.callback((folder / MANIFEST).unlink, missing_ok=True)
                sealed = manifest.model_copy(update={"files": records})
                _write_durably(folder / MANIFEST, sealed.model_dump_json(indent=1))
                _sync_tree(folder)
                undo.callback(self._withdraw, release_id, folder)
                os.rename(folder, target)
                _sync(self.root)
            self._point_at(release_id)
            undo.pop_all()
        return release_id

    def activate(self, release_id: str) -> None:
        """Make a verified release the live one: the way back, and forward again."""
        self.verify(release_id)
        with _explained("activate", release_id, self.root), self._writing():
            self._point_at(release_id)

    def verify(self, release_id: str) -> Manifest:
        """The manifest, if every file is as published and there is no other; else ReleaseError."""
        manifest = self.manifest(release_id)
        for name in manifest.files:
            if not _stays_inside(name):
                raise _damaged(release_id, name, "a path", "one inside the release folder")
        with _explained("verify", release_id, self.root):
            present = _artifacts(release_id, self.path(release_id))
            for name in sorted(present.keys() ^ manifest.files.keys()):
                found, expected = ("a file", "none") if name in present else ("none", "a file")
                raise _damaged(release_id, name, found, expected)
            for name, record in manifest.files.items():
                size = present[name].stat().st_size
                if size != record.size:
                    raise _damaged(release_id, name, f"{size} bytes", f"{record.size} bytes")
            with ThreadPoolExecutor(HASHED_AT_ONCE) as pool:
                found_sha256 = pool.map(_sha256, (present[name] for name in manifest.files))
                hashes = dict(zip(manifest.files, found_sha256, strict=True))
            for name, record in manifest.files.items():
                sha256 = hashes[name]
                if sha256 != record.sha256:
                    raise _damaged(release_id, name, f"SHA-256 {sha256}", record.sha256)
        return manifest

    def prune(self, keep: int, *, besides: Iterable[str] = ()) -> tuple[str, ...]:
        """Remove all but the newest `keep`, the live one, the one before it and those `besides`.

        Drafts go too.
        """
        with _explained("prune", "old releases", self.root), self._writing():
            for leftover in (*self.root.glob(".removed-*"), *self.root.glob(".drafts/*")):
                shutil.rmtree(leftover)  # of a night or a pruning that was killed
            kept = {*self.list()[: max(keep, 0)], self.current(), self.previous(), *besides}
            removed = tuple(name for name in self.list() if name not in kept)
            for name in removed:  # first out of sight, so that no reader finds half of it
                hidden = self.root / f".removed-{name}"
                os.rename(self.root / name, hidden)
                shutil.rmtree(hidden)
        return removed

    def _pointer(self) -> tuple[str, str | None] | None:
        with _explained("read", POINTER, self.root):
            try:
                lines = (self.root / POINTER).read_text("utf-8", errors="replace").split("\n")
            except FileNotFoundError:
                return None
        if not _ID.fullmatch(lines[0]):
            raise ReleaseError(
                f"{self.root / POINTER}: found {lines[0][:50]!r}, expected the id of a release. "
                "Activate a release to write it anew."
            )
        return lines[0], (lines[1] if len(lines) > 1 and lines[1] else None)

    def _live(self) -> str | None:
        """As `current`, but a damaged CURRENT counts as none: it is about to be replaced."""
        try:
            return self.current()
        except ReleaseError:
            return None

    def _point_at(self, release_id: str) -> None:
        before = self._live()
        if before == release_id:
            return
        fresh = self.root / f".{POINTER}.new"
        try:
            _write_durably(fresh, f"{release_id}\n{before or ''}\n")
            os.replace(fresh, self.root / POINTER)
        finally:
            fresh.unlink(missing_ok=True)
        _sync(self.root)

    def _withdraw(self, release_id: str, folder: Path) -> None:
        """Take back a release that got its name but did not go live."""
        target = self.root / release_id
        if target.exists() and self._live() != release_id:
            os.rename(target, folder)

    def _require_equal(self, release_id: str, records: dict[str, FileRecord]) -> None:
        published = self.verify(release_id).files
        for name in sorted(published.keys() | records.keys()):
            if published.get(name) != records.get(name):
                raise ReleaseError(
                    f"Release {release_id} is already published with another {name}. "
                    "A release never changes: publish under a new id."
                )

    def _age(self, release_id: str) -> tuple[int, str]:
        try:
            return self.manifest(release_id).created_at_us, release_id
        except ReleaseError:
            return -1, release_id

    @contextmanager
    def _writing(self) -> Iterator[None]:
        self.root.mkdir(parents=True, exist_ok=True)
        with open(self.root / ".lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # released by the kernel, even after a crash
            yield


def _checked_id(release_id: str) -> str:
    if not _ID.fullmatch(release_id) or release_id == POINTER:
        raise ReleaseError(
            f"Release id {release_id[:130]!r} cannot be used; expected 1 to 128 letters, digits, "
            f"'.', '_' or '-', not beginning with a sign, and not {POINTER}. Choose another."
        )
    return release_id


def _stays_inside(name: str) -> bool:
    path = PurePosixPath(name)
    plain = str(path) == name and "\\" not in name and "\0" not in name
    return plain and not path.is_absolute() and ".." not in path.parts and name != MANIFEST


def _artifacts(release_id: str, folder: Path) -> dict[str, Path]:
    """Files under `folder` by POSIX path, without the manifest; links and devices are refused."""
    found = {}
    for parent, folders, names in os.walk(folder, onerror=_raise):
        for path in (Path(parent, name) for name in (*folders, *names)):
            mode = path.lstat().st_mode
            name = path.relative_to(folder).as_posix()
            if stat.S_ISREG(mode):
                found[name] = path
            elif not stat.S_ISDIR(mode):
                raise _damaged(release_id, name, "a link or special file", "a regular file")
    found.pop(MANIFEST, None)
    return dict(sorted(found.items()))


def _raise(error: OSError) -> None:
    raise error


def _record(path: Path) -> FileRecord:
    return FileRecord(size=path.stat().st_size, sha256=_sha256(path))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_durably(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _sync_tree(folder: Path) -> None:
    for parent, _, names in os.walk(folder):
        for name in names:
            _sync(Path(parent, name))
        _sync(Path(parent))


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _damaged(release_id: str, name: str, found: str | None, expected: str) -> ReleaseError:
    return ReleaseError(
        f"Release {release_id}, {name}: found {found}, expected {expected}. {_DAMAGED}"
    )


@contextmanager
def _explained(verb: str, release_id: str, root: Path) -> Iterator[None]:
    """Says what to do about an error of the disk."""
    try:
        yield
    except OSError as error:
        remedy = {
            errno.ENOSPC: "The disk is full: free space (pruning removes old releases)",
            errno.EDQUOT: "The disk quota is used up: free space (pruning removes old releases)",
            errno.EXDEV: f"A release must be built on the disk of {root}: build it in a draft",
        }.get(error.errno or 0, "Mend what the system names")
        raise ReleaseError(
            f"Could not {verb} {release_id}: {error}. {remedy}, then try again; "
            "the live release is unchanged."
        ) from error
