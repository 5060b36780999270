"""Results on disk under a content key: an entry is there whole and as it was written, or it is not there."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load, save

from cmssd_core.config import Settings
from cmssd_core.types import frozen

Array = npt.NDArray[Any]

#: What safetensors keeps of NumPy's types.
DTYPES = (
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64", "complex64"),
)

ARRAYS = "arrays.safetensors"
META = "meta.json"
FORMAT = 1

#: Unfinished and discarded entries bear this prefix; what is older than an hour belongs to a process that died.
PASSING = ".passing-"
PASSING_AGE_S = 3600.0

#: How often a name is tried for: others may put and remove the same entry meanwhile.
ATTEMPTS = 16

_KEY = re.compile(r"[0-9a-f]{64}")

#: What reading raises where files are missing, cut short or changed.
_DAMAGE = (
    *(FileNotFoundError, NotADirectoryError, IsADirectoryError),
    *(ValueError, LookupError, TypeError, AttributeError, RecursionError, SafetensorError),
)


class StoreError(RuntimeError):
    """The disk refused (full, read-only, limit too small); the result itself is fine, only not kept."""


@dataclass(frozen=True, eq=False)
class Entry:
    """One stored result: read-only arrays by name, and meta, plain JSON (tuples come back as lists)."""

    arrays: Mapping[str, Array]
    meta: dict[str, Any]


def key(**parts: Any) -> str:
    """The content key of the named parts: sha256 (64 hex digits) of their canonical JSON, whatever their order.

    Parts are None, bool, int, float, str and lists, tuples or str-keyed dicts of these; a tuple equals a list, 1
    differs from 1.0. Raises TypeError for another type and ValueError for NaN or infinity: a key must not depend on
    how something happens to print.
    """
    return hashlib.sha256(_canonical(parts, "key")).hexdigest()


class Store:
    """Entries under one folder, shared by threads and processes; oldest by last use go first beyond `limit_bytes`.

    The folder is made by the first `put`. `limit_bytes` None = no limit.
    """

    def __init__(self, root: Path, *, limit_bytes: int | None) -> None:
        if limit_bytes is not None and limit_bytes <= 0:
            raise ValueError(f"a store's limit_bytes is positive or None, got {limit_bytes}")
        self.root = root
        self.limit_bytes = limit_bytes

    def get(self, key: str) -> Entry | None:
        """The entry, or None where it is missing. A damaged entry counts as missing and is removed.

        Raises StoreError where the folder cannot be read, ValueError where `key` is none.
        """
        folder = self._folder(key)
        try:
            identity = folder.lstat().st_ino
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _refused("read", folder, error) from error
        try:
            entry = _read(folder, key)
        except _DAMAGE:
            self._discard(folder, identity)
            return None
        except OSError as error:  # no rights, too many open files, a dying disk: says nothing of the entry
            raise _refused("read", folder, error) from error
        _touch(folder)
        return entry

    def put(self, key: str, *, arrays: Mapping[str, Array], meta: Mapping[str, Any]) -> None:
        """Keeps an entry; where a sound one is there already, that one stays (same key, same content).

        Raises StoreError where the disk refuses or the entry alone exceeds the limit, TypeError or ValueError where
        an array or a meta value is of a kind that does not come back as it was. Whatever is raised, nothing half
        written can be read.
        """
        folder = self._folder(key)
        data, sheet = _serialised(key, arrays, meta)
        size = len(data) + len(sheet)
        if self.limit_bytes is not None and size > self.limit_bytes:
            raise StoreError(
                f"a result of {size} bytes exceeds the store's whole limit of {self.limit_bytes}; raise the limit"
            )
        passing = self.root / f"{PASSING}{uuid.uuid4().hex}"
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            self._make_room(size)
            passing.mkdir()
            _write(passing / ARRAYS, data)
            _write(passing / META, sheet)
            _sync_folder(passing)
            # A name already borne is a sound entry, whose writer won, or a damaged one, which get() removes.
            for _ in range(ATTEMPTS):
                if _renamed(passing, folder) or self.get(key) is not None:
                    break
            else:
                raise StoreError(f"a damaged entry cannot be replaced; remove {folder} by hand")
            _sync_folder(self.root)
            self._make_room(0)
        except OSError as error:
            raise _refused("write", self.root, error) from error
        finally:
            _remove(passing)

    def size(self) -> int:
        """Bytes of all entries."""
        return sum(size for _, size, _ in self._entries())

    def _folder(self, key: str) -> Path:
        if not isinstance(key, str) or _KEY.fullmatch(key) is None:
            raise ValueError(f"a store key is 64 hexadecimal digits in lower case, got {key!r}; make it with store.key")
        return self.root / key

    def _entries(self) -> Iterator[tuple[float, int, Path]]:
        """Last use (seconds since the epoch), bytes and folder of each entry."""
        for path in _listed(self.root):
            if _KEY.fullmatch(path.name) is None:
                continue
            try:
                size = sum(child.stat().st_size for child in path.iterdir())
                yield path.stat().st_mtime, size, path
            except OSError:  # another process is removing it
                continue

    def _make_room(self, incoming: int) -> None:
        """Removes what dead processes left, and the least recently used entries until `incoming` bytes fit."""
        for path in _listed(self.root):
            if path.name.startswith(PASSING) and _age_s(path) > PASSING_AGE_S:
                _remove(path)
        if self.limit_bytes is None:
            return
        entries = sorted(self._entries())
        excess = sum(size for _, size, _ in entries) + incoming - self.limit_bytes
        for _, size, folder in entries:
            if excess <= 0:
                break
            self._discard(folder, None)
            excess -= size

    def _discard(self, folder: Path, identity: int | None) -> None:
        """Takes an entry away in one step, so that nobody sees it half removed.

        With an identity (inode), only if it is still that entry: another process may have put a sound one meanwhile.
        A read-only store keeps its damaged entries; they are never returned all the same.
        """
        aside = self.root / f"{PASSING}{uuid.uuid4().hex}"
        try:
            if identity is not None and folder.lstat().st_ino != identity:
                return
            folder.rename(aside)
        except OSError:
            return
        _remove(aside)


def _canonical(value: Any, where: str) -> bytes:
    """Canonical JSON: keys sorted, no spaces, ASCII; refuses what JSON cannot say."""
    _check_json(value, where)
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def _check_json(value: Any, where: str) -> None:
    if value is None or isinstance(value, bool | int | str):
        return
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{where} is {value}, which JSON cannot say; use None for what is not there")
    elif isinstance(value, dict):
        for name, item in value.items():
            if not isinstance(name, str):
                raise TypeError(f"{where} has the key {name!r} ({type(name).__name__}); keys are strings")
            _check_json(item, f"{where}.{name}")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _check_json(item, f"{where}[{index}]")
    else:
        raise TypeError(
            f"{where} is a {type(value).__name__}; give None, bool, int, float, str, or a list or dict of these"
        )


def _serialised(key: str, arrays: Mapping[str, Array], meta: Mapping[str, Any]) -> tuple[bytes, bytes]:
    """The bytes of both files; the meta file seals itself and the arrays by their sha256."""
    dense: dict[str, Array] = {}
    for name, array in arrays.items():
        if name == "__metadata__":
            raise ValueError("safetensors keeps the name '__metadata__' for itself; name the array otherwise")
        if array.dtype.name not in DTYPES:
            raise TypeError(f"array {name!r} is {array.dtype.name}; the store keeps {', '.join(DTYPES)}")
        # safetensors reads the buffer as it lies in memory: a strided or big-endian array would be stored scrambled.
        dense[name] = np.asarray(array, dtype=array.dtype.newbyteorder("="), order="C")
    data = save(dense)
    body = {
        "format": FORMAT,
        "key": key,
        "arrays": {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)},
        "meta": dict(meta),
    }
    seal = hashlib.sha256(_canonical(body, "entry")).hexdigest()
    return data, _canonical({"body": body, "seal": seal}, "entry")


def _read(folder: Path, key: str) -> Entry:
    """The entry in a folder; ValueError (or what parsing raises) where anything is not as it was written."""
    sheet = json.loads((folder / META).read_bytes())
    body = sheet["body"]
    if hashlib.sha256(_canonical(body, "entry")).hexdigest() != sheet["seal"]:
        raise ValueError(f"{folder / META} is damaged")
    if body["format"] != FORMAT or body["key"] != key:
        raise ValueError(f"{folder} holds format {body['format']} of {body['key']}")
    data = (folder / ARRAYS).read_bytes()
    if len(data) != body["arrays"]["bytes"] or hashlib.sha256(data).hexdigest() != body["arrays"]["sha256"]:
        raise ValueError(f"{folder / ARRAYS} is damaged")
    arrays = {name: frozen(array) for name, array in load(data).items()}
    return Entry(arrays=MappingProxyType(arrays), meta=body["meta"])


def _write(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Makes names in a folder outlive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _renamed(passing: Path, folder: Path) -> bool:
    """Gives the finished folder its name; False where something bears it already."""
    try:
        passing.rename(folder)
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
            return False
        raise
    return True


def _touch(folder: Path) -> None:
    try:
        os.utime(folder)
    except OSError:  # a read-only store forgets what was used last and still answers
        return


def _listed(root: Path) -> list[Path]:
    try:
        return list(root.iterdir())
    except OSError:
        return []


def _age_s(path: Path) -> float:
    try:
        return time.time() - path.lstat().st_mtime
    except OSError:
        return 0.0


def _remove(path: Path) -> None:
    """Removes a folder or file as far as possible; what is left is swept up in an hour."""
    shutil.rmtree(path, ignore_errors=True)
    if path.is_symlink() or path.is_file():
        path.unlink(missing_ok=True)


def _refused(verb: str, path: Path, error: OSError) -> StoreError:
    return StoreError(
        f"cannot {verb} {path.name}: {error.strerror or error}; free space or set CMSSD_CACHE_DIR elsewhere"
    )


def open_store(settings: Settings) -> Store:
    """The store of this installation: command line and dashboard share it, so that one knows what the other did."""
    return Store(settings.cache_dir, limit_bytes=int(settings.cache_limit_gb * 1e9))
