"""Data sets on disk, and their fetching from a server on this computer."""

from __future__ import annotations

import hashlib
import io
import sys
import zipfile
from contextlib import nullcontext
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sgaplus.data import downloads, sources
from sgaplus.data.datasets import ImageFile, fetch, list_images, status
from sgaplus.data.images import ImageNote, read_image
from sgaplus.errors import SystemFault, UserError


def photo_bytes(seed: int) -> bytes:
    """A small PNG whose pixels depend on ``seed``."""
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 4, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def zip_bytes(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


PHOTOS = {f"p{number}.png": photo_bytes(number) for number in (1, 2, 10)}


@pytest.fixture
def root(tmp_path, monkeypatch):
    """An empty data folder and an empty registry: nothing of this computer's own shows through."""
    folder = tmp_path / "data"
    monkeypatch.setenv("SGAPLUS_DATA", str(folder))
    monkeypatch.setattr(sources, "REGISTRY", tmp_path / "registry")
    (tmp_path / "registry").mkdir()
    return folder


def publish(name: str, contents: dict[str, bytes]) -> None:
    lines = [f"{sha256(content)}  {file}\n" for file, content in contents.items()]
    (sources.REGISTRY / f"{name}.sha256").write_text("".join(lines))


@pytest.fixture
def kodak(root, server, monkeypatch):
    """A data set of three single files with published checksums."""
    for file, content in PHOTOS.items():
        (server.folder / file).write_bytes(content)
    publish("kodak", PHOTOS)
    source = replace(sources.SOURCES["kodak"], images=3, urls=(f"{server.url}/{{file}}",))
    monkeypatch.setitem(sources.SOURCES, "kodak", source)
    return root / "kodak"


@pytest.fixture
def tecnick(root, server, monkeypatch):
    """A data set of three files in an archive, of which one checksum is published."""
    members = {f"TESTIMAGES/RGB/R/{file}": content for file, content in PHOTOS.items()}
    others = {"TESTIMAGES/GRAY/g.png": photo_bytes(5), "__MACOSX/R/._p1.png": b"x", "README.TXT": b"x"}
    (server.folder / "images.zip").write_bytes(zip_bytes(members | others))
    publish("tecnick", {"p1.png": PHOTOS["p1.png"]})
    source = replace(sources.SOURCES["tecnick"], images=3, urls=(f"{server.url}/images.zip",), inside="R")
    monkeypatch.setitem(sources.SOURCES, "tecnick", source)
    return root / "tecnick"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.exists() else {}


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "photos"
    path.mkdir()
    for file, content in PHOTOS.items():
        (path / file).write_bytes(content)
    (path / "notes.txt").write_text("not a photograph")
    (path / ".hidden.png").write_bytes(photo_bytes(3))
    return path


def test_photographs_of_other_kinds_in_a_folder_are_read_or_reported(folder):
    with Image.open(folder / "p1.png") as image:
        image.save(folder / "p3.avif")
        image.save(folder / "p4.GIF")
    (folder / "p5.HEIC").write_bytes(b"ftypheic")
    (folder / "p6.cr2").write_bytes(b"raw")
    (folder / "p7.png").mkdir()
    with pytest.warns(ImageNote, match=r"2 of 7 photographs .*p5.HEIC, p6.cr2.*convert") as issued:
        images = list_images(folder)
    assert len(issued) == 1
    assert [image.path.name for image in images] == ["p1.png", "p2.png", "p3.avif", "p4.GIF", "p10.png"]
    for file in PHOTOS | {"p3.avif": b"", "p4.GIF": b""}:
        (folder / file).unlink()
    with pytest.raises(UserError, match=r"no image .*p5.HEIC, p6.cr2.*convert"):
        list_images(folder)


def test_file_list_and_choices(folder):
    images = list_images(folder)
    assert [image.name for image in images] == ["p1", "p2", "p10"], "in natural order"
    assert images[0].sha256 == sha256(PHOTOS["p1.png"])
    assert torch.equal(images[0].read(), read_image(folder / "p1.png"))
    assert [i.path for i in list_images(str(folder / "p2.png"))] == [folder / "p2.png"]
    assert [i.name for i in list_images([folder / "p10.png", str(folder / "p1.png")])] == ["p10", "p1"]
    assert [i.name for i in list_images(folder, images=["p10.png", "p1", "p10.png"])] == ["p10", "p1"]
    assert [i.name for i in list_images(folder, limit=2)] == ["p1", "p2"]
    assert len(list_images(folder, limit=99)) == 3


def test_what_cannot_be_listed(folder, tmp_path, root):
    (tmp_path / "twins").mkdir()
    for file in ("a.png", "a.jpg"):
        (tmp_path / "twins" / file).touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.png").write_text("no image")
    for call, reason in [
        *(
            (lambda side=side: list_images(folder, crop=side), "pixels .* at least 1")
            for side in (0, 1.5, True)
        ),
        (lambda: list_images(folder, crop=5)[0].read(), "4×6 pixels, too few for a crop of 5×5"),
        (lambda: list_images(folder, crop=2)[0].centre(1), "a crop already"),
        (lambda: ImageFile("text", tmp_path / "text.png").size, "not an image"),
        (lambda: list_images("kodac"), "did you mean 'kodak'"),
        (lambda: list_images("no/such/folder"), "data sets are sample, kodak"),
        (lambda: list_images([]), "list of images is empty"),
        (lambda: list_images(tmp_path / "empty"), "no image in"),
        (lambda: list_images(tmp_path / "twins"), "two images are called 'a'"),
        (lambda: list_images(folder, images=["p3"]), "no image 'p3'.*p1 to p10"),
        (lambda: list_images(folder, images=[]), "no image is chosen"),
        (lambda: list_images(folder, limit=0), "at least 1, not 0"),
        (lambda: list_images("kodak"), "sgaplus data fetch kodak.*SGAPLUS_DATA"),
        (lambda: list_images("clic2020"), str(root / "clic2020")),
        (lambda: fetch("kodac"), "no data set 'kodac'"),
    ]:
        with pytest.raises(UserError, match=reason):
            call()


def test_a_changed_file_is_noticed(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(PHOTOS["p1.png"])
    image = ImageFile("a", path, sha256(PHOTOS["p1.png"]))
    assert image.read().shape == (3, 6, 4)
    path.write_bytes(PHOTOS["p2.png"] + b" ")
    for call in (image.read, lambda: image.sha256):
        with pytest.raises(UserError, match=f"a.png.*expected.*{sha256(PHOTOS['p1.png'])}.*found"):
            call()
    for call in (image.centre(2).read, lambda: image.centre(2).sha256):
        with pytest.raises(UserError, match="not the registered image"):
            call()
    path.unlink()
    with pytest.raises(UserError, match="cannot be read"):
        image.read()


def test_a_crop_is_the_centre_with_a_hash_of_its_own(folder):
    whole = list_images(folder)[0]
    crops = {side: list_images(folder, crop=side)[0] for side in (1, 2, 4)}
    pixels = whole.read()
    height, width = whole.size
    assert (height, width) == tuple(pixels.shape[-2:]) == (6, 4)
    for side, crop in crops.items():
        top, left = (height - side) // 2, (width - side) // 2
        assert torch.equal(crop.read(), pixels[:, top : top + side, left : left + side])
        assert crop.size == (side, side)
        assert crop.name == f"{whole.name}@{side}"
    assert len({whole.sha256, *(crop.sha256 for crop in crops.values())}) == 4
    assert crops[2].sha256 == whole.centre(2).sha256
    other = list_images(folder, crop=2)[1]
    assert other.sha256 != crops[2].sha256


def test_sample_needs_no_network():
    images = list_images("sample")
    assert [image.name for image in images] == ["astronaut", "chelsea", "coffee", "motorcycle_left", "rocket"]
    assert fetch("sample").is_dir()
    for image in images:
        # The profile of one of them is Adobe RGB.
        converted = pytest.warns(ImageNote, match="Adobe RGB") if image.name == "rocket" else nullcontext()
        with converted:
            x = image.read()
        assert x.shape[0] == 3 and min(x.shape[1:]) >= 256 and x.std() > 0.1


def test_fetch_of_single_files(kodak, server):
    assert fetch("kodak", progress=False) == kodak
    assert contents(kodak) == PHOTOS
    assert [image.name for image in list_images("kodak")] == ["p1", "p2", "p10"]
    assert all(image.expected == image.sha256 for image in list_images("kodak"))
    asked = len(server.asked)
    fetch("kodak", progress=False)
    assert len(server.asked) == asked == 3


def test_fetch_resumes_with_what_is_missing_or_damaged(kodak, server):
    kodak.mkdir(parents=True)
    (kodak / "p1.png").write_bytes(PHOTOS["p1.png"])
    (kodak / "p2.png").write_bytes(b"half")
    with pytest.warns(ImageNote, match="incomplete: 2 of its 3"):
        images = list_images("kodak")
    with pytest.raises(UserError, match=r"p2.png.*expected"):
        images[1].read()
    with pytest.warns(ImageNote, match=r"p2\.png was another file.*kept as p2.png.replaced"):
        fetch("kodak", progress=False)
    assert sorted(server.asked) == ["/p10.png", "/p2.png"]
    assert contents(kodak) == PHOTOS | {"p2.png.replaced": b"half"}
    assert len([image.read() for image in list_images("kodak")]) == 3


def test_a_fetch_that_fails_says_why_and_keeps_what_is_right(kodak, server):
    kodak.parent.mkdir()
    kodak.write_text("in the way")
    with pytest.raises(UserError, match="cannot write to"):
        fetch("kodak", progress=False)
    kodak.unlink()
    (server.folder / "p2.png").write_bytes(photo_bytes(99))
    with pytest.raises(SystemFault, match=r"127.0.0.1 delivered a p2.png with a wrong checksum"):
        fetch("kodak", progress=False)
    (server.folder / "p2.png").unlink()
    with pytest.raises(SystemFault, match=f"127.0.0.1 refuses p2.png .404.*by hand.*{kodak}"):
        fetch("kodak", progress=False)
    server.http.server_close()
    with pytest.raises(SystemFault, match=f"127.0.0.1 cannot be reached.*by hand from.*into {kodak}"):
        fetch("kodak", progress=False)
    assert contents(kodak) == {"p1.png": PHOTOS["p1.png"]}


@pytest.mark.parametrize(("name", "file"), [("kodak", "p1.png"), ("tecnick", "images.zip")])
@pytest.mark.filterwarnings("ignore:.*no published checksum")
def test_a_download_that_breaks_off_goes_on_where_it_was(request, server, monkeypatch, name, file):
    monkeypatch.setattr(downloads, "_BLOCK", 1)
    folder = request.getfixturevalue(name)
    server.cut.add(f"/{file}")
    with pytest.raises(SystemFault, match=f"broke off during {file}"):
        fetch(name, progress=False)
    [(part, content)] = contents(folder).items()
    assert part.startswith(f".{file}.") and part.endswith(".part")
    whole = (server.folder / file).read_bytes()
    assert content == whole[: len(whole) // 2]
    server.cut.clear()
    fetch(name, progress=False)
    assert f"/{file} from {len(content)}" in server.asked
    assert {"p1.png", "p2.png", "p10.png"} <= contents(folder).keys()
    assert not [file for file in contents(folder) if file.endswith(".part")]


def test_fetch_of_an_archive_records_unknown_checksums(tecnick, server):
    with pytest.warns(ImageNote, match="2 images of tecnick have no published checksum"):
        fetch("tecnick", progress=False)
    found = contents(tecnick)
    lock = found.pop("SHA256SUMS").decode()
    assert found == PHOTOS
    assert lock == "".join(f"{sha256(PHOTOS[file])}  {file}\n" for file in ("p2.png", "p10.png"))
    assert all(image.expected == sha256(PHOTOS[image.path.name]) for image in list_images("tecnick"))
    fetch("tecnick", progress=False)
    assert server.asked == ["/images.zip"]


def test_another_process_may_have_fetched_the_archive_and_removed_it(tecnick, monkeypatch):
    """This one comes to check what the other one has just unpacked."""
    check = downloads.check_archive

    def too_late(archive, *arguments):
        downloads.unpack(archive, tecnick, check(archive, *arguments))
        archive.unlink()
        return check(archive, *arguments)

    monkeypatch.setattr(downloads, "check_archive", too_late)
    with pytest.warns(ImageNote, match="no published checksum"):
        fetch("tecnick", progress=False)
    assert len(list_images("tecnick")) == 3


def test_who_gives_up_waiting_leaves_the_lock_to_its_owner(tmp_path, server, monkeypatch):
    locks = []

    def give_up(lock):
        locks.append(Path(lock.lock_file))
        locks[0].touch()
        raise KeyboardInterrupt

    monkeypatch.setattr(downloads.FileLock, "__enter__", give_up)
    with pytest.raises(KeyboardInterrupt):
        downloads.download(f"{server.url}/a.bin", tmp_path / "a.bin", None, "try later")
    assert locks[0].exists()


def test_a_server_whose_headers_are_wrong_is_named(server, tmp_path, monkeypatch):
    (server.folder / "a.bin").write_bytes(b"content")
    send = BaseHTTPRequestHandler.send_header
    monkeypatch.setattr(BaseHTTPRequestHandler, "send_header", lambda self, key, _: send(self, key, "many"))
    with pytest.raises(SystemFault, match=r"127.0.0.1 .*broke off during a\.bin: try later"):
        downloads.download(f"{server.url}/a.bin", tmp_path / "a.bin", None, "try later")


def test_other_files_and_damage_after_the_first_fetch_are_kept_aside(tecnick):
    tecnick.mkdir(parents=True)
    (tecnick / "p1.png").write_bytes(photo_bytes(42))
    with pytest.warns(ImageNote), pytest.warns(match=r"kept as p1.png.replaced"):
        fetch("tecnick", progress=False)
    assert (tecnick / "p1.png.replaced").read_bytes() == photo_bytes(42)
    assert (tecnick / "p1.png").read_bytes() == PHOTOS["p1.png"]
    (tecnick / "p2.png").write_bytes(photo_bytes(99))
    with pytest.raises(UserError, match=r"p2.png is not the registered image"):
        list_images("tecnick")[1].read()
    with pytest.warns(ImageNote, match=r"kept as p2.png.replaced"):
        fetch("tecnick", progress=False)
    assert (tecnick / "p2.png").read_bytes() == PHOTOS["p2.png"]
    assert (tecnick / "p2.png.replaced").read_bytes() == photo_bytes(99)
    assert len(list_images("tecnick")) == 3


def test_an_archive_downloaded_by_hand_is_used(tecnick, server):
    tecnick.mkdir(parents=True)
    (server.folder / "images.zip").rename(tecnick / "images.zip")
    with pytest.warns(ImageNote, match="no published checksum"):
        fetch("tecnick", progress=False)
    assert server.asked == []
    assert sorted(contents(tecnick)) == ["SHA256SUMS", "images.zip", "p1.png", "p10.png", "p2.png"]


@pytest.mark.parametrize("digest", [None, "md5:" + "0" * 32])
@pytest.mark.parametrize(
    "content",
    [b"", b"half of", zip_bytes({"R/p1.png": PHOTOS["p1.png"]}), zip_bytes({f"R/{f}": b"x" for f in PHOTOS})],
)
def test_an_archive_downloaded_by_hand_is_never_deleted(tecnick, server, monkeypatch, content, digest):
    source = replace(sources.SOURCES["tecnick"], digests=(digest,))
    monkeypatch.setitem(sources.SOURCES, "tecnick", source)
    tecnick.mkdir(parents=True)
    (tecnick / "images.zip").write_bytes(content)
    if digest:
        with pytest.raises(SystemFault, match=r"images.zip .*kept; 127.0.0.1 delivered"):
            fetch("tecnick", progress=False)
    else:
        with pytest.warns(ImageNote, match="no published checksum"):
            fetch("tecnick", progress=False)
        assert len(list_images("tecnick")) == 3
    assert (tecnick / "images.zip").read_bytes() == content
    assert not [path for path in tecnick.iterdir() if path.name.startswith(".")]


def test_a_data_set_of_a_mirror_can_be_used_as_a_folder(kodak):
    kodak.mkdir(parents=True)
    for file, content in PHOTOS.items():
        (kodak / file).write_bytes(content + b" ")
    with pytest.raises(
        UserError, match=rf"not the registered.*sgaplus data fetch kodak.*\({kodak}\)"
    ) as refused:
        list_images("kodak")[0].read()
    assert "delete" not in str(refused.value)
    assert [image.read().shape for image in list_images(kodak)] == [(3, 6, 4)] * 3


def test_a_list_of_checksums_that_is_none_is_not_deleted(tecnick):
    tecnick.mkdir(parents=True)
    for content in (b"one-word\n", b"\xff\xfe"):
        (tecnick / "SHA256SUMS").write_bytes(content)
        with pytest.raises(UserError, match=r"SHA256SUMS is no list of checksums.*rename") as refused:
            sources.registered("tecnick")
        assert "delete" not in str(refused.value)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"<html>Please choose a mirror</html>", "a web page"),
        (zip_bytes({"R/p1.png": PHOTOS["p1.png"]}), "holds 1 of the images instead of 3"),
        (zip_bytes({f"R/{file}": photo_bytes(7) for file in PHOTOS}), "holds another p1.png"),
        (zip_bytes({f"R/{file}": content for file, content in PHOTOS.items()})[:-60], "no zip archive"),
        (
            zip_bytes({f"R/{f}": c for f, c in PHOTOS.items()}).replace(
                PHOTOS["p2.png"][50:60], b"0123456789"
            ),
            "is damaged",
        ),
    ],
    ids=["web page", "too few", "other images", "cut off", "damaged within"],
)
def test_a_wrong_archive_leaves_nothing(tecnick, server, content, reason):
    (server.folder / "images.zip").write_bytes(content)
    with pytest.raises(SystemFault, match=f"images.zip .*{reason}"):
        fetch("tecnick", progress=False)
    assert contents(tecnick) == {}


def test_the_second_address_is_tried(tecnick, server, monkeypatch):
    urls = (f"{server.url}/gone.zip", f"{server.url}/images.zip")
    source = replace(sources.SOURCES["tecnick"], urls=urls, digests=("md5:" + "0" * 32, None))
    monkeypatch.setitem(sources.SOURCES, "tecnick", source)
    with pytest.warns(ImageNote):
        fetch("tecnick", progress=False)
    assert server.asked == ["/gone.zip", "/images.zip"]
    assert len(list_images("tecnick")) == 3


@pytest.mark.parametrize("name", ["kodak", "tecnick"])
@pytest.mark.parametrize("terminal", [False, True])
def test_a_bar_is_shown_on_a_terminal_alone(name, terminal, request, monkeypatch, capsys):
    request.getfixturevalue(name)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    with pytest.warns(ImageNote) if name == "tecnick" else nullcontext():
        fetch(name)
    assert ("100%" in capsys.readouterr().err) == terminal


def test_status(kodak):
    kodak.mkdir(parents=True)
    (kodak / "p1.png").write_bytes(PHOTOS["p1.png"])
    (kodak / "stranger.png").write_bytes(PHOTOS["p2.png"])
    rows = {row.name: row for row in status().itertuples()}
    assert list(rows) == ["sample", "kodak", "tecnick", "clic2020", "clic2025"]
    assert (rows["sample"].have, rows["sample"].of) == (5, 5)
    assert (rows["kodak"].have, rows["kodak"].of, rows["kodak"].folder) == (1, 3, kodak)
    assert (rows["clic2020"].have, rows["clic2020"].of) == (0, 41)


@pytest.mark.parametrize("name", ["kodak", "clic2025"])
def test_the_real_images_are_the_registered_ones(name, data_set):
    images = data_set(name)
    assert len(images) == sources.SOURCES[name].images
    assert {image.path.name: image.sha256 for image in images} == sources.published(name)
    if name == "kodak":
        assert [image.name for image in images] == [f"kodim{number:02}" for number in range(1, 25)]
        assert sorted(images[0].read().shape) == [3, 512, 768]
