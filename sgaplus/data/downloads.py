"""Fetching data sets: files come from the network whole and right, or not at all."""

from __future__ import annotations

import errno
import hashlib
import zipfile
import zlib
from collections.abc import Collection, Mapping
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import pooch
import requests
from tqdm import tqdm

from .. import io
from ..errors import SystemFault, UserError
from .images import note
from .sources import LOCK, SOURCES, folder_of, present, published, read_sums, registered


def fetch(name: str, progress: bool = True) -> Path:
    """Download what is missing or damaged of a named data set; returns its folder.

    A run that was broken off goes on with the next file. A file gets its name only when it is complete and
    its checksum is right. An archive is unpacked and removed; one that was downloaded by hand into the data
    set's folder is used instead of the network.

    Args:
        progress: show a bar on standard error.

    Raises:
        UserError: there is no such data set, or its folder cannot be written to.
        SystemFault: the server is out of reach or delivers something else. What came before is kept.
    """
    folder = folder_of(name)
    if name == "sample":
        return folder
    if not _is_complete(name):
        _fetch_files(name, progress) if "{file}" in SOURCES[name].urls[0] else _fetch_archive(name, progress)
    _record(name)
    return folder


def _fetch_files(name: str, progress: bool) -> None:
    source, folder = SOURCES[name], folder_of(name)
    remedy = f"run it again to go on, or download the images by hand from {source.home} into {folder}"
    for file, digest in tqdm(published(name).items(), name, unit="image", disable=not progress):
        download(source.urls[0].format(file=file), folder / file, digest, remedy)


def _fetch_archive(name: str, progress: bool) -> None:
    source, folder, expected = SOURCES[name], folder_of(name), registered(name)
    faults = []
    # What is on the disk already comes first.
    choices = sorted(
        zip(source.urls, source.digests, strict=True),
        key=lambda choice: not (folder / archive_name(choice[0])).is_file(),
    )
    for url, digest in choices:
        archive = folder / archive_name(url)
        remedy = f"try later, or download {url} by hand into {folder} and run it again"
        try:
            download(url, archive, digest, remedy, progress)
            names = expected if len(expected) == source.images else None
            members = check_archive(archive, source.images, expected, remedy, source.inside, names)
        except SystemFault as fault:
            faults.append(str(fault))
            continue
        unpack(archive, folder, members)
        archive.unlink()
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
        with io.atomic(lock) as temporary:
            temporary.write_text("".join(f"{digest}  {file}\n" for file, digest in sums.items()))
        note(
            f"{len(sums)} images of {name} have no published checksum: those of this first download are "
            f"recorded in {lock} and hold from now on"
        )


def archive_name(url: str) -> str:
    """The zip file's name in its address, which may go on after it (``…/images.zip/download``)."""
    return next(part for part in reversed(PurePosixPath(urlsplit(url).path).parts) if part.endswith(".zip"))


def download(url: str, path: Path, digest: str | None, remedy: str, progress: bool = False) -> None:
    """Bring ``url`` to ``path``, which appears only when it is complete and its checksum is right.

    A file that is there already and has the right checksum is left alone; a wrong one is replaced.

    Args:
        digest: ``algorithm:hex``, a bare SHA-256, or None: then a file that is there is taken as it is.
        remedy: what the user can do, the end of every error message.
        progress: show a bar on standard error.

    Raises:
        UserError: the folder cannot be written to.
        SystemFault: the server is out of reach, refuses, or delivers something else; or the disk fails.
    """
    pooch.get_logger().setLevel("WARNING")
    host = urlsplit(url).hostname
    try:
        pooch.retrieve(url, known_hash=digest, fname=path.name, path=path.parent, progressbar=progress)
    except requests.HTTPError as error:
        answer = f"{error.response.status_code} {error.response.reason}"
        raise SystemFault(f"{host} refuses {path.name} ({answer}): {remedy}") from error
    except requests.RequestException as error:
        raise SystemFault(f"{host} cannot be reached or broke off during {path.name}: {remedy}") from error
    except ValueError as error:
        raise SystemFault(
            f"{host} delivered a {path.name} with a wrong checksum (not {digest}), which was not kept: {remedy}"
        ) from error
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
            raise UserError(f"cannot write to {path.parent}: {error.strerror}") from error
        raise SystemFault(f"could not write {path}: {error.strerror or error}") from error


def check_archive(
    archive: Path,
    count: int,
    expected: Mapping[str, str],
    remedy: str,
    inside: str | None = None,
    names: Collection[str] | None = None,
) -> list[str]:
    """The paths of an archive's PNG files, once all of them are found whole and right.

    Args:
        count: how many there must be.
        expected: SHA-256 by file name, for those that have one.
        remedy: what the user can do, the end of every error message.
        inside: only those whose folder in the archive has this name.
        names: only these.

    Raises:
        SystemFault: it is not so. The archive is then removed, or it would be taken again.
    """
    wrong = ""
    try:
        with zipfile.ZipFile(archive) as opened:
            members = [member for member in opened.namelist() if _wanted(member, inside, names)]
            if len(members) != count:
                wrong = f"holds {len(members)} of the images instead of {count}"
            for member in members:
                name = PurePosixPath(member).name
                found = hashlib.sha256(opened.read(member)).hexdigest()
                if expected.get(name, found) != found:
                    wrong = f"holds another {name} than expected (SHA-256 {expected[name]}, found {found})"
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError):
        wrong = "is damaged or no zip archive"
    if wrong:
        archive.unlink()
        raise SystemFault(f"{archive.name} {wrong} and was removed: {remedy}")
    return members


def unpack(archive: Path, folder: Path, members: Collection[str]) -> None:
    """Write ``members`` of a zip archive into ``folder``, flat.

    Raises:
        UserError: the folder cannot be written to.
        SystemFault: the disk is full or fails.
    """
    with zipfile.ZipFile(archive) as opened:
        for member in members:
            with io.atomic(folder / PurePosixPath(member).name) as temporary:
                temporary.write_bytes(opened.read(member))


def _wanted(member: str, inside: str | None, names: Collection[str] | None) -> bool:
    path = PurePosixPath(member)
    if path.suffix.lower() != ".png" or path.name.startswith(".") or "__MACOSX" in path.parts:
        return False
    return inside in (None, path.parent.name) and (names is None or path.name in names)
