"""Fetching data sets: files come from the network whole and right, or not at all."""

import contextlib
import errno
import hashlib
import zipfile
import zlib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import requests
from filelock import FileLock
from tqdm import tqdm

from .. import io
from ..errors import SystemFault, UserError
from .images import note
from .sources import LOCK, SOURCES, Source, folder_of, present, published, read_sums, registered

# Seconds without a byte after which a server counts as silent.
_TIMEOUT = 60
# Bytes that are written at once; what breaks off loses at most so many.
_BLOCK = 1 << 16


def fetch(name: str, progress: bool = True) -> Path:
    """Download what is missing or damaged of a named data set; returns its folder.

    A run that was broken off goes on with the next file. A file gets its name only when it is complete and
    its checksum is right; what was there before under that name is kept under another one. An archive is
    unpacked and removed; one that was downloaded by hand into the data set's folder is used instead of the
    network, and stays there.

    Args:
        progress: show a bar on standard error, where that is a terminal.

    Raises:
        UserError: there is no such data set, or its folder cannot be written to.
        SystemFault: the server is out of reach or delivers something else. What came before is kept.
    """
    folder = folder_of(name)
    if name == "sample":
        return folder
    if not _is_complete(name):
        how = _fetch_files if "{file}" in SOURCES[name].urls[0] else _fetch_archive
        try:
            how(name, progress)
        except (UserError, SystemFault):
            if not _is_complete(name):  # or another process unpacked the archive and removed it
                raise
    _record(name)
    return folder


def _fetch_files(name: str, progress: bool) -> None:
    source, folder = SOURCES[name], folder_of(name)
    remedy = f"run it again to go on, or download the images by hand from {source.home} into {folder}"
    for file, digest in tqdm(published(name).items(), name, unit="image", disable=None if progress else True):
        download(source.urls[0].format(file=file), folder / file, digest, remedy)


def _fetch_archive(name: str, progress: bool) -> None:
    source, folder = SOURCES[name], folder_of(name)
    faults = []
    # An archive that somebody has put there comes first and stays where it is, whatever it holds. Ours is
    # hidden until it is unpacked.
    files = [folder / archive_name(url) for url in source.urls]
    by_hand = [
        (file, "", digest) for file, digest in zip(files, source.digests, strict=True) if file.is_file()
    ]
    ours = [file.with_name(f".{file.name}") for file in files]
    for archive, url, digest in [*by_hand, *zip(ours, source.urls, source.digests, strict=True)]:
        remedy = (
            f"try later, or download {url} by hand into {folder} and run it again" if url else "it is kept"
        )
        try:
            if url:
                download(url, archive, digest, remedy, progress)
            members = check_archive(archive, source, registered(name), remedy, digest)
        except SystemFault as fault:
            faults.append(str(fault))
            if url:
                archive.unlink(missing_ok=True)
            continue
        unpack(archive, folder, members)
        if url:
            archive.unlink(missing_ok=True)
        return
    raise SystemFault("; ".join(faults))


def _is_complete(name: str) -> bool:
    """Whether all images are here and none differs from its checksum, where it has one."""
    expected, paths = registered(name), present(name)
    right = [path for path in paths if expected.get(path.name) in (None, io.sha256(path))]
    return len(right) == SOURCES[name].images


def _record(name: str) -> None:
    """Write down the checksums of the files that have no published one, unless that was done before."""
    known, lock = published(name), folder_of(name) / LOCK
    sums = {path.name: io.sha256(path) for path in present(name) if path.name not in known}
    if sums and sums != read_sums(lock):
        io.write(lock, "".join(f"{digest}  {file}\n" for file, digest in sums.items()))
        note(
            f"{len(sums)} images of {name} have no published checksum: those of this first download are "
            f"recorded in {lock} and hold from now on"
        )


def archive_name(url: str) -> str:
    """The zip file's name in its address, which may go on after it (``…/images.zip/download``)."""
    return next(part for part in reversed(PurePosixPath(urlsplit(url).path).parts) if part.endswith(".zip"))


def download(url: str, path: Path, digest: str | None, remedy: str, progress: bool = False) -> None:
    """Bring ``url`` to ``path``, which appears only when it is complete and its checksum is right.

    A file with the right checksum is left alone; another one is kept under another name, with an `ImageNote`.
    A download that was broken off goes on where it was.

    Args:
        digest: ``algorithm:hex``, a bare SHA-256, or None: then a file that is there is taken as it is. Of a
            checksum of which not all is known, the first digits.
        remedy: what the user can do, the end of every error message.
        progress: show a bar on standard error, where that is a terminal.

    Raises:
        UserError: the folder cannot be written to.
        SystemFault: the server is out of reach, refuses, or delivers something else; or the disk fails.
    """
    host, name = urlsplit(url).hostname, path.name.removeprefix(".")
    # Another address may have another file of this name.
    part = path.with_name(f".{name}.{hashlib.sha256(url.encode()).hexdigest()[:8]}.part")
    try:
        if path.is_file() and _has(path, digest):
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with _alone(part.with_suffix(".lock")):
            if path.is_file() and _has(path, digest):  # another process was faster
                return
            _bring(url, part, progress)
            if not _has(part, digest):
                part.unlink()
                raise SystemFault(
                    f"{host} delivered a {name} with a wrong checksum (not {digest}), not kept: {remedy}"
                )
            if path.is_file():
                kept = io.set_aside(path, "replaced")
                note(f"{path} was another file than the registered one: it is kept as {kept.name}")
            part.replace(path)
    except requests.HTTPError as error:
        answer = f"{error.response.status_code} {error.response.reason}"
        raise SystemFault(f"{host} refuses {name} ({answer}): {remedy}") from error
    except (requests.RequestException, ValueError) as error:  # the latter of headers that are wrong
        raise SystemFault(f"{host} cannot be reached or broke off during {name}: {remedy}") from error
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
            raise UserError(
                f"cannot write to {path.parent}: {error.strerror}; set SGAPLUS_DATA to a folder of your own"
            ) from error
        raise SystemFault(f"could not write {path}: {io.reason(error)}") from error


@contextlib.contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """One process at a time; only that one removes the file of the lock."""
    with FileLock(lock):
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                lock.unlink()


def _bring(url: str, part: Path, progress: bool) -> None:
    """The content of ``url`` into ``part``, after what is there already if the server can begin there."""
    have = part.stat().st_size if part.is_file() else 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as answer:
        if have and answer.status_code == requests.codes.requested_range_not_satisfiable:
            part.unlink()
            raise requests.ConnectionError("what came before is of another file, and is dropped")
        answer.raise_for_status()
        goes_on = answer.status_code == requests.codes.partial_content
        start = have if goes_on else 0
        length = answer.headers.get("Content-Length")
        total = start + int(length) if length else None
        settings = {"total": total, "initial": start, "unit": "B", "unit_scale": True}
        if not goes_on:
            part.unlink(missing_ok=True)
        with part.open("ab") as file, tqdm(**settings, disable=None if progress else True) as bar:
            for block in answer.iter_content(_BLOCK):
                file.write(block)
                bar.update(len(block))
    if total is not None and part.stat().st_size < total:
        raise requests.ConnectionError(f"{part.stat().st_size} of {total} bytes arrived")


def _has(path: Path, digest: str | None) -> bool:
    """Whether a file has the checksum ``digest``, or begins with it; any file has None."""
    if digest is None:
        return True
    algorithm, _, expected = digest.rpartition(":")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, algorithm or "sha256").hexdigest()
    return found.startswith(expected.lower())


def check_archive(
    archive: Path, source: Source, expected: Mapping[str, str], remedy: str, digest: str | None = None
) -> list[str]:
    """The paths of an archive's images, once all of them are found whole and right.

    Args:
        expected: SHA-256 by file name, for those that have one.
        remedy: what the user can do, the end of every error message.
        digest: the archive's own checksum.

    Raises:
        UserError: the archive cannot be read.
        SystemFault: it is not so.
    """
    wrong = ""
    names = expected if len(expected) == source.images else None
    try:
        if not _has(archive, digest):
            wrong = f"has another checksum than {digest}"
        with zipfile.ZipFile(archive) as opened:
            members = [member for member in opened.namelist() if _wanted(member, source.inside, names)]
            if len(members) != source.images:
                wrong = f"holds {len(members)} of the images instead of {source.images}"
            for member in members:
                name = PurePosixPath(member).name
                found = hashlib.sha256(opened.read(member)).hexdigest()
                if expected.get(name, found) != found:
                    wrong = f"holds another {name} than expected (SHA-256 {expected[name]}, found {found})"
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError):  # the last one: a password, a new method
        wrong = f"is {io.what_it_is(archive) or 'damaged or no zip archive'}"
    except OSError as error:
        raise io.unreadable(archive, error) from error
    if wrong:
        raise SystemFault(f"{archive.with_name(archive.name.removeprefix('.'))} {wrong}: {remedy}")
    return members


def unpack(archive: Path, folder: Path, members: Collection[str]) -> None:
    """Write ``members`` of a zip archive into ``folder``, flat; other files of these names are kept aside.

    Raises:
        UserError: the folder cannot be written to.
        SystemFault: the disk is full or fails.
    """
    with zipfile.ZipFile(archive) as opened:
        for member in members:
            content, path = opened.read(member), folder / PurePosixPath(member).name
            with io.atomic(path) as temporary:
                temporary.write_bytes(content)
                if path.is_file() and path.read_bytes() != content:
                    kept = io.set_aside(path, "replaced")
                    note(f"{path} was another file than the archive's: it is kept as {kept.name}")


def _wanted(member: str, inside: str | None, names: Collection[str] | None) -> bool:
    path = PurePosixPath(member)
    if path.suffix.lower() != ".png" or path.name.startswith(".") or "__MACOSX" in path.parts:
        return False
    return inside in (None, path.parent.name) and (names is None or path.name in names)
