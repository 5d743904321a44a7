"""Checksums of a checkpoint: a list of its files, written last, under its own checksum."""

import hashlib
import json
import logging
import os
from pathlib import Path

from segjax.training.logs import versions

MANIFEST = "manifest.json"

SEALED = "segjax_manifest"
"""A key in the `meta` of a checkpoint: it must have a manifest."""

# Orbax's own notes, rewritten after the manifest; nothing here reads them.
_UNSEALED = ("_CHECKPOINT_METADATA", "commit_success.txt")

logger = logging.getLogger(__name__)


def write(folder: Path, *, step: int) -> None:
    """Lists the files of the checkpoint `step` in `folder`, and puts all on disk."""
    files = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name not in (*_UNSEALED, MANIFEST):
            files[name] = {
                "bytes": path.stat().st_size,
                "sha256": _sha256(path, to_disk=True),
            }
    listed = {"step": step, "versions": versions(), "files": files}
    content = json.dumps(listed).encode()
    scratch = folder / f"{MANIFEST}.tmp"
    with scratch.open("wb") as file:
        file.write(content + b"\n" + hashlib.sha256(content).hexdigest().encode())
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(folder / MANIFEST)


def _sha256(path: Path, *, to_disk: bool = False) -> str:
    with path.open("rb") as file:
        if to_disk:
            # Else a power failure may keep the folder's name and lose its content.
            os.fsync(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest()


def damage(path: Path) -> str | None:
    """Compares a checkpoint with its manifest; reads every byte of it.

    Args:
      path: a folder `STEP`.

    Returns:
      what is wrong with it; None if nothing is, or if it is from a version of segjax
      that wrote no manifest, of which the log has a note.
    """
    manifest = path / MANIFEST
    try:
        if not manifest.is_file():
            meta = json.loads((path / "meta" / "metadata").read_bytes())
            if SEALED in meta:
                return f"{MANIFEST} is missing"
            logger.info("%s: has no checksums, an earlier version wrote it", path)
            return None
        content, _, digest = manifest.read_bytes().rpartition(b"\n")
        if hashlib.sha256(content).hexdigest().encode() != digest:
            return f"{MANIFEST} is damaged"
        listed = json.loads(content)
        if listed["step"] != int(path.name):
            return f"it is step {listed['step']} under the name of another"
        for name, expected in listed["files"].items():
            file = path / name
            if not file.is_file():
                return f"{name} is missing"
            if file.stat().st_size != expected["bytes"]:
                return f"{name} has another size"
            if _sha256(file) != expected["sha256"]:
                return f"{name} has another checksum"
    except (OSError, ValueError, KeyError, TypeError) as error:
        return reason_of(error)
    return None


def reason_of(error: BaseException) -> str:
    """The first line of an error's message, without what only a developer reads."""
    if isinstance(error, OSError) and error.strerror:
        return (
            f"{error.strerror}: {error.filename}" if error.filename else error.strerror
        )
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].split(" [source locations")[0]
