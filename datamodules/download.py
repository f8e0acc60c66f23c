"""Where do the publishers' files come from? Found where somebody put them, else downloaded and checked."""

from __future__ import annotations

import hashlib
import http.client
import os
import shutil
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

from datamodules.unpack import UnpackError, unpack
from dynamo.plain_file import open_plain
from dynamo.types import UserError

_BLOCK = 1 << 20
_TIMEOUT = 60.0


class DataError(UserError):
    """The data on disk cannot be used; the message names the file and the remedy.

    Examples:
        >>> from pathlib import Path
        >>> from datamodules import CIFAR100DataModule, DataError
        >>> Path("cifar-100-python").mkdir()
        >>> try:
        ...     CIFAR100DataModule(root=".").prepare_data()
        ... except DataError as error:
        ...     print(error)
        cifar-100-python/train is missing: delete cifar-100-python to fetch it anew, or put the publisher's file there.
    """


def resolve_root(root: str | Path | None) -> Path:
    """The folder of the data: `root`, else the environment variable DYNAMO_DATA, else ~/.cache/dynamo."""
    return Path(root or os.environ.get("DYNAMO_DATA") or "~/.cache/dynamo").expanduser()


def file_md5(path: Path) -> str:
    """The MD5 sum publishers give for `path`; it finds damage, not malice.

    Raises:
        DataError: it cannot be read, or is no ordinary file.
    """
    found = hashlib.md5(usedforsecurity=False)
    try:
        with open_plain(path) as file:
            while block := file.read(_BLOCK):
                found.update(block)
    except OSError as error:
        raise unreadable(path, error) from error
    return found.hexdigest()


def unreadable(path: Path, error: OSError) -> DataError:
    """The error for a file or folder that is there, and cannot be read."""
    return DataError(f"{path} cannot be read ({error}): set its permissions, or put the publisher's own there.")


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
    except (urllib.error.URLError, http.client.HTTPException, OSError, ValueError) as error:
        raise DataError(
            f"cannot download {url} ({error}). On a machine with a connection fetch that file, "
            f"and put it into {path.parent} as {path.name}."
        ) from error
    finally:
        part.unlink(missing_ok=True)


def extract(archive: Path, folder: str, root: Path, most: int) -> Path:
    """Unpack the member `folder` of a tar archive to `root / folder`; nothing is ever written outside `root`.

    Args:
        archive: a `.tar.gz`.
        folder: what is taken of it.
        root: where it is put.
        most: bytes that it may come to, see `unpack`.

    Raises:
        DataError: if the archive is damaged, has no such folder, is larger, or holds a member that climbs out.
    """
    target = root / folder
    try:
        part = Path(tempfile.mkdtemp(prefix=f".{folder}.part-", dir=root))
    except OSError as error:
        raise DataError(f"{root} cannot be written to ({error}), to unpack {archive}: choose another root.") from error
    try:
        unpack(archive, part, most)
        if not (part / folder).is_dir():
            raise DataError(f"{archive} holds no folder {folder!r}: it is another archive. Replace it.")
        try:
            (part / folder).rename(target)
        except OSError:
            if not target.is_dir():  # else another process was faster, with the same content
                raise
    except UnpackError as error:
        raise DataError(f"{archive} was refused: {error}. Delete it and fetch the publisher's own.") from error
    except OSError as error:
        raise DataError(
            f"{archive} cannot be unpacked ({error}): it is damaged or incomplete. "
            "Delete it to download it again, or put a whole copy there."
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return target


def fetch_archive(root: Path, folder: str, url: str, md5: str, most: int) -> Path:
    """The `folder` under `root`: as somebody put it there, else from the archive, else downloaded.

    Args:
        root: the folder of the data.
        folder: its name, in the archive too.
        url: of the archive.
        md5: of the archive.
        most: see `extract`.

    Raises:
        DataError: the archive is absent and cannot be downloaded, or is not the publisher's, or cannot be unpacked.
    """
    target = root / folder
    if target.is_dir():
        return target
    archive = root / url.rsplit("/", 1)[-1]
    if archive.exists():
        check_md5(archive, md5)
    else:
        download(url, archive, md5)
    return extract(archive, folder, root, most)
