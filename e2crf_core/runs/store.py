"""Store archived runs in a folder: list, search, annotate, and import them, and limit their number."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from pathlib import Path

from e2crf_core.errors import LabError
from e2crf_core.io.files import remove_leftovers
from e2crf_core.io.userfiles import user_dir
from e2crf_core.runs.archive import Archive, load, read_manifest, save
from e2crf_core.runs.manifest import NOTE_LENGTH

AUTOSAVED = 40
NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,95}")


@dataclass(frozen=True)
class Entry:
    """A list entry for a run, read without decompressing the arrays."""

    name: str
    path: Path
    created: str
    status: str
    checkpoint: str
    solver: str
    steps: int
    num: int
    seed: int
    trigger: str
    token_share: float | None
    relative_l2: float | None
    note: str
    kept: bool
    bytes: int

    def matches(self, search: str) -> bool:
        """Return whether the entry's text fields together contain every word of `search`."""
        parts = (self.name, self.checkpoint, self.trigger, self.solver, self.note, self.status)
        text = " ".join(parts).lower()
        return all(word in text for word in search.lower().split())


def read_entry(path: Path) -> Entry:
    """Read the entry of one archive. Raises LabError for a file that is damaged or not an archive."""
    manifest = read_manifest(path)
    spec, result = manifest.spec, manifest.result
    comparison = result.comparison if result else None
    return Entry(
        name=path.stem,
        path=path,
        created=manifest.created,
        status=manifest.status,
        checkpoint=spec.checkpoint,
        solver=spec.solver,
        steps=spec.steps,
        num=spec.num,
        seed=spec.seed,
        trigger=spec.policy.trigger,
        token_share=result.token_share if result else None,
        relative_l2=comparison.relative_l2 if comparison else None,
        note=manifest.note[:NOTE_LENGTH],
        kept=manifest.kept,
        bytes=path.stat().st_size,
    )


class RunStore:
    """A folder of archives. Without `folder` it is `runs` in `user_dir()`, looked up at each use.

    Beyond `autosaved` archives, the oldest ones that nobody chose to keep are deleted. Files left
    half-written by a killed process are removed when the first archive is added.
    """

    def __init__(self, folder: Path | None = None, autosaved: int = AUTOSAVED) -> None:
        self._folder = folder
        self._autosaved = autosaved
        self._swept = False

    @property
    def folder(self) -> Path:
        """Return the folder of the archives."""
        return self._folder or user_dir() / "runs"

    def path(self, name: str) -> Path:
        """Return the file of a run. Raises LabError for a name that could lead elsewhere."""
        if not NAME.fullmatch(name):
            raise LabError(f"run name {name[:40]!r}: letters, digits, '-', '_' and '.' only", field="name")
        return self.folder / f"{name}.zip"

    def add(self, archive: Archive) -> Path:
        """Store an archive, replacing any of that name, and delete the oldest ones not marked as kept."""
        path = self.path(archive.name)
        if not self._swept:
            remove_leftovers(self.folder)
            self._swept = True
        save(archive, path)
        loose = [entry for entry in self.list() if not entry.kept and entry.path != path]
        for entry in loose[max(0, self._autosaved - 1) :]:
            entry.path.unlink(missing_ok=True)
        return path

    def get(self, name: str) -> Archive:
        """Open a run. Raises LabError if it is missing or cannot be read."""
        path = self.path(name)
        if not path.is_file():
            raise LabError(f"there is no run {name!r} in {self.folder}", field="name")
        return load(path)

    def annotate(self, name: str, note: str) -> None:
        """Add a note to a run, which marks it as kept."""
        if len(note) > NOTE_LENGTH:
            raise LabError(f"a note may have at most {NOTE_LENGTH} characters, not {len(note)}", field="note")
        save(replace(self.get(name), note=note, kept=True), self.path(name))

    def bring(self, path: Path) -> Archive:
        """Import an archive file after reading it completely, under a name chosen here."""
        archive = load(path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
        label = re.sub(r"[^A-Za-z0-9_-]+", "-", archive.name).strip("-")[:60] or "run"
        name = label if not self.path(label).exists() else f"{label}-{digest}"
        archive = replace(archive, name=name, kept=True)
        self.add(archive)
        return archive

    def delete(self, name: str) -> None:
        """Remove a run permanently."""
        self.path(name).unlink(missing_ok=True)

    def list(self, search: str = "") -> list[Entry]:
        """List runs that match every word of `search`, newest first, skipping files that are not archives.

        A file that another session deletes meanwhile is no run any more.
        """
        entries = []
        for path in self.folder.glob("*.zip"):
            try:
                entry = read_entry(path)
            except (LabError, FileNotFoundError):
                continue
            if entry.matches(search):
                entries.append(entry)
        return sorted(entries, key=lambda entry: (entry.created, entry.name), reverse=True)
