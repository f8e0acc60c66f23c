"""Where do the publishers' files come from? Found where somebody put them, else downloaded and checked."""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
import tempfile
import urllib.error
import urllib.request
import zlib
from pathlib import Path

from dynamo.types import UserError

_BLOCK = 1 << 20
_TIMEOUT = 60.0


class DataError(UserError):
    """The data on disk cannot be used; the message names the file and the remedy."""


def resolve_root(root: str | Path | None) -> Path:
    """The folder of the data: `root`, else the environment variable DYNAMO_DATA, else ~/.cache/dynamo."""
    return Path(root or os.environ.get("DYNAMO_DATA") or "~/.cache/dynamo").expanduser()


def file_md5(path: Path) -> str:
    """The MD5 sum publishers give for `path`; it finds damage, not malice."""
    found = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            found.update(block)
    return found.hexdigest()


def check_md5(path: Path, md5: str) -> None:
    """Refuse a file that is not the publisher's.

    Raises:
        DataError: if the sum differs.
    """
    found = file_md5(path)
    if found != md5:
        raise DataError(
            f"{path} has MD5 {found}, expected {md5}: it is damaged, incomplete or another file. "
            "Delete it to download it again, or put a whole copy there."
        )


def download(url: str, path: Path, md5: str) -> None:
    """Bring `url` to `path` unless it is there; the file appears under its name only when it is whole.

    Raises:
        DataError: without a connection, or if what came has another checksum.
    """
    if path.exists():
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.part-", dir=path.parent)
    except OSError as error:
        raise DataError(
            f"{path} is absent and cannot be written ({error}): choose another root, or put the file there. "
            f"It comes from {url}"
        ) from error
    part = Path(name)
    try:
        with (
            os.fdopen(handle, "wb") as file,
            urllib.request.urlopen(url, timeout=_TIMEOUT) as response,
        ):
            shutil.copyfileobj(response, file, _BLOCK)
        if (found := file_md5(part)) != md5:
            raise DataError(f"{url} came with MD5 {found}, expected {md5}: try again later.")
        part.chmod(0o644)
        part.replace(path)
    except (urllib.error.URLError, OSError, ValueError) as error:
        raise DataError(
            f"cannot download {url} ({error}). On a machine with a connection fetch that file, "
            f"and put it into {path.parent} as {path.name}."
        ) from error
    finally:
        part.unlink(missing_ok=True)


def extract(archive: Path, folder: str, root: Path) -> Path:
    """Unpack the member `folder` of a tar archive to `root / folder`; nothing is ever written outside `root`.

    Raises:
        DataError: if the archive is damaged, has no such folder, or holds a member that climbs out.
    """
    target = root / folder
    part = Path(tempfile.mkdtemp(prefix=f".{folder}.part-", dir=root))
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                _extract_member(archive, tar, member, part)
        if not (part / folder).is_dir():
            raise DataError(f"{archive} holds no folder {folder!r}: it is another archive. Replace it.")
        try:
            (part / folder).rename(target)
        except OSError:
            if not target.is_dir():  # else another process was faster, with the same content
                raise
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise DataError(
            f"{archive} cannot be unpacked ({error}): it is damaged or incomplete. "
            "Delete it to download it again, or put a whole copy there."
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return target


def _extract_member(archive: Path, tar: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> None:
    """Write one plain file or folder below `folder`; by hand, since tarfile's filters are missing before 3.11.4."""
    target = (folder / member.name).resolve()
    content = tar.extractfile(member) if member.isfile() else None
    if not target.is_relative_to(folder.resolve()) or not (content or member.isdir()):
        raise DataError(
            f"{archive} was refused: its member {member.name!r} lies outside the archive's own folder, or is no plain "
            "file. Delete it and fetch the publisher's own."
        )
    (target.parent if content else target).mkdir(parents=True, exist_ok=True)
    if content:
        with content, target.open("wb") as file:
            shutil.copyfileobj(content, file)


def fetch_archive(root: Path, folder: str, url: str, md5: str) -> Path:
    """The `folder` under `root`: as somebody put it there, else from the archive, else downloaded."""
    target = root / folder
    if target.is_dir():
        return target
    archive = root / url.rsplit("/", 1)[-1]
    if archive.exists():
        check_md5(archive, md5)
    else:
        download(url, archive, md5)
    return extract(archive, folder, root)
