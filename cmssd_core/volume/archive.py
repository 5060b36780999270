"""Archives: a zip is unpacked under guard, or refused with the reason."""

from __future__ import annotations

import stat
import zipfile
from pathlib import Path, PurePosixPath

from cmssd_core.types import InputError

_CHUNK = 1 << 20
#: Raw images of flat background reach about 1:100; beyond this, and above the floor, a zip is built to exhaust.
_RATIO_LIMIT = 200
_RATIO_FLOOR = 64 << 20
_FILES_LIMIT = 50_000


def unpack(archive: Path, *, into: Path, limit_mb: int) -> None:
    """Unpacks a zip into the folder `into`.

    Raises InputError for names that lead outside, encrypted or nested archives, links, a damaged file, and for more
    than `limit_mb` MB of content, both as declared and as counted while unpacking.
    """
    name = archive.name
    try:
        with zipfile.ZipFile(archive) as opened:
            members = [member for member in opened.infolist() if not member.is_dir()]
            _guard(members, name=name, limit_mb=limit_mb)
            left = limit_mb << 20
            folders: dict[PurePosixPath, str] = {}
            for member in members:
                if _litter(member.filename):
                    continue
                # Numbered folders keep deep paths within what the file system takes; the last two names are kept
                # because a contrast may stand in either.
                path = PurePosixPath(member.filename.replace("\\", "/"))
                number = folders.setdefault(path.parent, f"{len(folders):06d}")
                target = into / number / Path(*path.parts[-2:])
                target.parent.mkdir(parents=True, exist_ok=True)
                with opened.open(member) as packed, target.open("wb") as plain:
                    while chunk := packed.read(_CHUNK):
                        left -= len(chunk)
                        if left < 0:
                            raise _too_large(name, limit_mb)
                        plain.write(chunk)
    except (zipfile.BadZipFile, NotImplementedError, EOFError, OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"'{name}' is a damaged or unusual zip and cannot be unpacked; pack it again") from error
    except Exception as error:  # zlib, lzma and bz2 each bring their own
        raise InputError(f"'{name}' is a damaged zip and cannot be unpacked; pack it again") from error


def _guard(members: list[zipfile.ZipInfo], *, name: str, limit_mb: int) -> None:
    if not members:
        raise InputError(f"'{name}' is an empty zip; expected one image or the DICOM files of one examination")
    if len(members) > _FILES_LIMIT:
        raise InputError(f"'{name}' holds {len(members)} files, more than {_FILES_LIMIT}; pack one examination only")
    for member in members:
        path = member.filename.replace("\\", "/")
        if path.startswith("/") or ".." in path.split("/") or path[1:2] == ":" or "\0" in path:
            raise InputError(f"'{name}' holds a file name that leads outside the archive; pack it again without paths")
        if stat.S_ISLNK(member.external_attr >> 16):
            raise InputError(f"'{name}' holds a symbolic link; pack the files themselves")
        if member.flag_bits & 0x1:
            raise InputError(f"'{name}' is encrypted; unpack it and give the folder or an open zip")
        if path.lower().endswith((".zip", ".7z", ".rar", ".tar", ".tgz", ".tar.gz")) and not _litter(path):
            raise InputError(f"'{name}' holds another archive; unpack that one and pack the images only")
    if sum(member.file_size for member in members) > limit_mb << 20:
        raise _too_large(name, limit_mb)
    for member in members:
        if member.file_size > _RATIO_FLOOR and member.file_size > _RATIO_LIMIT * max(member.compress_size, 1):
            raise InputError(
                f"'{name}' unpacks to more than {_RATIO_LIMIT} times its size, like a zip made to fill the disk; "
                "give the images unpacked"
            )


def _litter(path: str) -> bool:
    # macOS adds these to every zip; they are no images.
    return "__MACOSX" in path or path.rsplit("/", 1)[-1].startswith("._") or path.endswith(".DS_Store")


def _too_large(name: str, limit_mb: int) -> InputError:
    return InputError(
        f"'{name}' unpacks to more than {limit_mb} MB; give fewer series or raise CMSSD_UNPACKED_LIMIT_MB"
    )
