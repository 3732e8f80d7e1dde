"""Images in memory: what is loaded, from where, in which order, and what a user's mistake is answered with."""

import io
import logging
import os
import struct
import tarfile
import zlib
from types import SimpleNamespace
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from nas.data import image_folder
from nas.data.datasets import CIFAR10_MEAN, CIFAR10_STD, cache_dir, load_data
from search_spaces.errors import InputError

DIGITS_FINGERPRINT = "9e9a57ae29951afdc25770aea2d3ffe5f6a6fee0d24226ee79174cc590a6b940"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "darts-blocks"


@pytest.fixture
def folder(tmp_path):
    """train: 6 cats and 4 dogs, test: 2 and 1; 8x8, each of one colour of its own."""
    for split, counts in (("train", {"cat": 6, "dog": 4}), ("test", {"cat": 2, "dog": 1})):
        for c, (name, count) in enumerate(counts.items()):
            for i in range(count):
                save(tmp_path / "pets" / split / name / f"{i}.png", colour=(10 * i, 100 * c, 7))
    return tmp_path / "pets"


def save(path, colour=(0, 0, 0), size=(8, 8), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path)


def one_line(source, image_size=None):
    """The message that loading `source` is refused with."""
    with pytest.raises(InputError) as caught:
        load_data(str(source), image_size)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 600
    return message


def pixel(folder, image_size=None):
    """The upper left pixel of test/dog/0.png: the only dog, so the only test image with label 1."""
    data = load_data(str(folder), image_size)
    image = data.test_images[data.test_labels == 1][0]
    assert image.dtype == torch.uint8 and image.shape[0] == 3
    return image[:, 0, 0].tolist()


# ---- digits


def test_digits_are_split_the_same_way_everywhere():
    data = load_data("digits", None)
    assert (len(data.train_images), len(data.test_images), data.image_size, data.flip) == (1437, 360, 8, False)
    assert data.fingerprint == DIGITS_FINGERPRINT
    assert data.classes == tuple("0123456789")
    assert data.train_images.max() == 255 and data.train_images.min() == 0
    assert data.mean == pytest.approx((0.305318,) * 3, abs=1e-6)
    assert data.std == pytest.approx((0.375861,) * 3, abs=1e-6)


def test_digits_train_and_test_share_no_place():
    from sklearn.datasets import load_digits

    data = load_data("digits", None)
    both = torch.cat([data.train_images, data.test_images])[:, 0].flatten(1)
    ours = sorted(map(bytes, both.numpy()))
    assert ours == sorted(bytes(np.rint(i * 255 / 16).astype(np.uint8)) for i in load_digits().images)


def test_every_prefix_and_both_halves_of_the_digits_have_the_proportions_of_the_classes():
    data = load_data("digits", None)
    share = torch.bincount(data.train_labels) / len(data.train_labels)
    for count in (10, 100, 718, 1000):
        got = torch.bincount(data.train_labels[:count], minlength=10)
        assert (got - share * count).abs().max() < 1.5
    _, first, _, second = data.search_halves()
    assert (len(first), len(second)) == (718, 719)
    assert (torch.bincount(first) - torch.bincount(second)).abs().max() <= 2


def test_digits_are_resized_when_asked():
    assert load_data("digits", 16).train_images.shape == (1437, 3, 16, 16)


# ---- CIFAR-10


@pytest.fixture
def fake_cifar10(monkeypatch):
    """torchvision's class with 20 training and 4 test images: a checkerboard of single pixels, black and white."""
    roots = []

    def build(root, train, download):
        assert download
        roots.append(root)
        count = 20 if train else 4
        board = np.indices((32, 32)).sum(0) % 2 * 255
        images = np.broadcast_to(board[None, :, :, None], (count, 32, 32, 3)).astype(np.uint8)
        classes = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
        return SimpleNamespace(data=images, targets=[(7 * i) % 10 for i in range(count)], classes=classes)

    monkeypatch.setattr(torchvision.datasets, "CIFAR10", build)
    return roots


def test_cifar10_keeps_its_official_order_and_the_published_statistics(fake_cifar10, cache):
    data = load_data("cifar10", None)
    assert data.train_labels.tolist() == [(7 * i) % 10 for i in range(20)]
    assert (data.name, data.image_size, data.flip) == ("cifar10", 32, True)
    assert (data.mean, data.std) == (CIFAR10_MEAN, CIFAR10_STD)
    assert set(fake_cifar10) == {str(cache / "data")}


def test_cifar10_is_looked_for_where_it_is_said_to_be(fake_cifar10, tmp_path):
    load_data("cifar10", None, root=tmp_path / "elsewhere")
    assert set(fake_cifar10) == {str(tmp_path / "elsewhere")}


def test_shrinking_is_antialiased(fake_cifar10):
    images = load_data("cifar10", 16).train_images
    assert images.shape == (20, 3, 16, 16)
    assert images.float().sub(127.5).abs().max() < 40  # every second pixel, as without, would be 0 or 255


@pytest.mark.parametrize(
    "error",
    [
        URLError("Name or service not known"),
        RuntimeError("File not found or corrupted."),
        tarfile.ReadError("unexpected end of data"),
        EOFError(),
        PermissionError(13, "Permission denied"),
        zlib.error("Error -3 while\ndecompressing"),
    ],
)
def test_without_cifar10_one_line_names_the_two_ways_on(monkeypatch, cache, error):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(torchvision.datasets, "CIFAR10", fail)
    message = one_line("cifar10")
    assert "--data FOLDER (train/<class>/*, test/<class>/*)" in message and "--preset quick" in message
    assert str(cache / "data") in message and "()" not in message


def test_a_broken_download_is_refused_by_torchvision_itself(tmp_path, monkeypatch):
    def no_network(*args, **kwargs):
        raise URLError("unreachable")

    monkeypatch.setattr("urllib.request.urlopen", no_network)
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(b"half an archive")
    with pytest.raises(InputError, match=r"unreachable.*--preset quick"):
        load_data("cifar10", None, root=tmp_path)


def test_the_cache_is_in_the_home_folder_unless_xdg_says_otherwise(monkeypatch, tmp_path):
    assert cache_dir() == tmp_path / "cache" / "darts-blocks"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr("pathlib.Path.home", lambda: tmp_path)
    assert cache_dir() == tmp_path / ".cache" / "darts-blocks"


# ---- a folder of images


def test_a_folder_is_loaded_with_its_own_name_classes_and_statistics(folder):
    data = load_data(str(folder), None)
    assert (data.name, data.classes, data.image_size, data.flip) == ("pets", ("cat", "dog"), 8, True)
    assert torch.bincount(data.train_labels).tolist() == [6, 4]
    for image, label in zip(data.train_images, data.train_labels, strict=True):
        assert image[1].unique().tolist() == [100 * label] and image[2].unique().tolist() == [7]
    pixels = data.train_images.double() / 255
    assert data.mean == pytest.approx(pixels.mean((0, 2, 3)).tolist())
    assert data.std[:2] == pytest.approx(pixels.std((0, 2, 3), correction=0).tolist()[:2])
    assert data.std[2] == 1e-3  # one value throughout


def test_a_folder_is_stored_in_a_stratified_order(folder):
    labels = load_data(str(folder), None).train_labels
    assert torch.bincount(labels[:5]).tolist() == [3, 2]
    assert [torch.bincount(labels[:n], minlength=2).tolist() for n in (2, 3)] == [[1, 1], [2, 1]]


def test_the_stratified_order_is_a_fixed_permutation():
    order = image_folder.stratified_order(np.repeat([0, 1], [5, 10]))
    assert sorted(order) == list(range(15))
    assert order.tolist() == [11, 2, 10, 9, 0, 5, 7, 1, 13, 6, 3, 12, 14, 4, 8]


def test_a_folder_called_like_a_data_set_is_not_taken_for_it(folder):
    renamed = folder.rename(folder.parent / "cifar10")
    assert load_data(str(renamed), None).name == "cifar10 (folder)"


def test_hidden_files_and_files_beside_the_classes_are_ignored(folder):
    before = load_data(str(folder), None).fingerprint
    (folder / "train" / "cat" / ".DS_Store").write_bytes(b"x")
    (folder / "train" / ".ipynb_checkpoints").mkdir()
    (folder / "train" / "labels.csv").write_text("x")
    assert load_data(str(folder), None).fingerprint == before


def test_images_that_are_not_square_are_stretched_to_the_asked_size(folder):
    image = Image.new("RGB", (33, 17), (200, 0, 0))
    image.paste((0, 0, 200), (17, 0, 33, 17))
    image.save(folder / "test" / "dog" / "0.png")
    data = load_data(str(folder), 16)
    image = data.test_images[data.test_labels == 1][0]
    assert image.shape == (3, 16, 16)
    assert (image[0, :, :7] == 200).all() and (image[2, :, 9:] == 200).all()


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("L", 90, [90, 90, 90]),
        ("LA", (90, 10), [90, 90, 90]),
        ("RGBA", (90, 80, 70, 10), [90, 80, 70]),
        ("1", 1, [255, 255, 255]),
        ("I;16", 90 * 256, [90, 90, 90]),
    ],
)
def test_grey_transparent_and_16_bit_images_become_three_channels(folder, mode, colour, expected):
    save(folder / "test" / "dog" / "0.png", colour, mode=mode)
    assert pixel(folder) == expected


@pytest.mark.filterwarnings("error")
def test_a_palette_with_transparency_becomes_three_channels(folder):
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, 90, 80, 70])
    image.save(folder / "test" / "dog" / "0.png", transparency=bytes([0, 128]))
    assert pixel(folder) == [90, 80, 70]


def test_a_jpeg_is_not_turned_by_its_exif(folder):
    (folder / "test" / "dog" / "0.png").unlink()
    image = Image.new("RGB", (8, 8), (0, 0, 0))
    image.paste((255, 255, 255), (0, 0, 8, 4))
    exif = Image.Exif()
    exif[0x0112] = 3  # by half a turn
    image.save(folder / "test" / "dog" / "0.jpg", exif=exif)
    assert min(pixel(folder)) > 240


# ---- the cache of decoded images


def test_a_second_load_decodes_nothing(folder, cache, monkeypatch):
    first = load_data(str(folder), None)
    assert len(list((cache / "folders").iterdir())) == 1
    monkeypatch.setattr(image_folder, "_decode", None)
    second = load_data(str(folder), None)
    assert second.fingerprint == first.fingerprint
    assert torch.equal(second.train_images, first.train_images)


def test_a_changed_file_another_size_or_another_name_is_decoded_anew(folder, cache):
    fingerprints = [load_data(str(folder), None).fingerprint]
    save(folder / "train" / "cat" / "0.png", colour=(1, 2, 3))
    fingerprints.append(load_data(str(folder), None).fingerprint)
    fingerprints.append(load_data(str(folder), 16).fingerprint)
    (folder / "train" / "cat" / "0.png").rename(folder / "train" / "cat" / "9.png")
    fingerprints.append(load_data(str(folder), 16).fingerprint)
    assert len(set(fingerprints)) == len(list((cache / "folders").iterdir())) == 4


def test_a_broken_cache_file_is_replaced(folder, cache, caplog):
    fingerprint = load_data(str(folder), None).fingerprint
    (file,) = (cache / "folders").iterdir()
    whole = file.read_bytes()
    other = io.BytesIO()
    np.savez(other, images=np.zeros((2, 3, 8, 8), np.uint8))
    for broken in (b"", b"not an archive", whole[:-100], whole[:400] + b"\xff" + whole[401:], other.getvalue()):
        file.write_bytes(broken)
        assert load_data(str(folder), None).fingerprint == fingerprint
        assert "cannot be used" in caplog.text
        assert file.read_bytes() == whole
        caplog.clear()


def test_a_cache_that_cannot_be_written_costs_one_warning(folder, cache, caplog):
    cache.parent.mkdir()
    cache.write_text("a file where the folder should be")
    with caplog.at_level(logging.WARNING):
        assert len(load_data(str(folder), None).train_images) == 10
    assert [r for r in caplog.messages if "cannot be kept" in r]


def test_files_beyond_what_is_held_in_memory_are_read_again(folder, monkeypatch):
    fingerprint = load_data(str(folder), None).fingerprint
    monkeypatch.setattr(image_folder, "HELD_BYTES", 200)
    monkeypatch.setattr(image_folder, "SMALL_FILE_BYTES", 0)  # and decoded in threads
    monkeypatch.setattr(image_folder, "DECODER_VERSION", -1)
    assert load_data(str(folder), None).fingerprint == fingerprint


# ---- a user's mistakes


def test_a_misspelt_name_is_answered_with_the_known_ones():
    message = one_line("digit")
    assert 'did you mean "digits"?' in message and "cifar10" in message


def test_what_is_no_folder_of_images_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    assert f'"{tmp_path / "none"}" is not a folder; known: cifar10, digits' in one_line(tmp_path / "none")
    assert f'"{tmp_path / "file"}" is not a folder' in one_line(tmp_path / "file")
    assert f'"{tmp_path}" has no folder "train"; images are expected as train/<class>/*' in one_line(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda pets: (pets / "test").rename(pets / "validation"), '"{pets}" has no folder "test"'),
        (lambda pets: (pets / "test").rename(pets / "old") and save(pets / "test" / "0.png"), '"{test}" has no class'),
        (
            lambda pets: (pets / "train" / "dog").rename(pets / "dog"),
            '"{train}" has one class, "cat"; at least two are',
        ),
        (lambda pets: (pets / "train" / "eel").mkdir(), '"{train}{sep}eel" has no images'),
        (lambda pets: (pets / "test" / "dog").rename(pets / "test" / "eel"), "only in train: dog; only in test: eel"),
        (
            lambda pets: [save(pets / "test" / f"x{i}" / "0.png") for i in range(9)],
            "none; only in test: x0, x1, x2, x3, x4 and 4 more",
        ),
        (
            lambda pets: (pets / "train" / "cat" / "more").mkdir(),
            '"{train}{sep}cat{sep}more" is a folder inside a class',
        ),
    ],
    ids=["no test", "no classes", "one class", "an empty class", "other classes", "many others", "a folder in a class"],
)
def test_a_folder_that_is_not_laid_out_as_it_must_be_is_named(change, message, folder):
    change(folder)
    assert message.format(pets=folder, train=folder / "train", test=folder / "test", sep=os.sep) in one_line(folder)


def test_images_of_different_sizes_or_not_square_ask_for_image_size(folder):
    bad = folder / "train" / "dog" / "3.png"
    save(bad, size=(9, 9))
    message = one_line(folder)
    assert str(bad) in message and "9 x 9" in message and "8 x 8" in message and "--image-size" in message
    for path in folder.glob("*/*/*.png"):
        save(path, size=(9, 7))
    message = one_line(folder)
    assert "is 9 x 7 pixels" in message and "--image-size" in message


@pytest.mark.parametrize("content", [b"", b"hello", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n"])
def test_a_file_that_is_no_image_is_named(folder, content):
    bad = folder / "test" / "cat" / "notes.txt"
    bad.write_bytes(content)
    assert f'"{bad}" is not an image' in one_line(folder)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "GIF", "BMP"])
def test_a_truncated_image_is_named(folder, format):
    file = io.BytesIO()
    Image.effect_noise((64, 64), 90).save(file, format)
    bad = folder / "train" / "cat" / "bad"
    bad.write_bytes(file.getvalue()[: len(file.getvalue()) // 2])
    assert f'"{bad}" cannot be decoded' in one_line(folder, 8)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("side", [8_001, 11_000, 60_000])
def test_a_decompression_bomb_is_named_before_it_is_decoded(folder, side):
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    bad = folder / "train" / "cat" / "bomb.png"
    bad.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"0" * 1000)) + chunk(b"IEND", b""))
    assert f'"{bad}" has more than 64 million pixels' in one_line(folder, 8)


def test_grey_of_unknown_range_is_named(folder):
    bad = folder / "train" / "cat" / "depth.tiff"
    save(bad, 0.5, mode="F")
    assert f'"{bad}" cannot be decoded (it has 32 bits a pixel' in one_line(folder)


def test_a_file_that_cannot_be_read_is_named(folder, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.read_bytes", refuse)
    message = one_line(folder)
    assert str(folder / "train") in message and "cannot be read: Permission denied" in message


def test_a_dangling_link_is_named(folder):
    link = folder / "train" / "cat" / "link.png"
    try:
        link.symlink_to(folder / "nowhere.png")
    except OSError:
        pytest.skip("no symbolic links here")
    assert f'"{link}" cannot be read' in one_line(folder)


def test_an_image_size_below_one_pixel_is_refused():
    assert "at least 1 pixel" in one_line("digits", 0)


# ---- ImageData


def test_first_keeps_a_prefix_and_has_its_own_fingerprint(folder):
    data = load_data(str(folder), None)
    few = data.first(4, None)
    assert (len(few.train_images), len(few.train_labels), len(few.test_images)) == (4, 4, 3)
    assert torch.equal(few.train_images, data.train_images[:4]) and few.mean == data.mean
    assert few.fingerprint not in ("", data.fingerprint)
    assert data.first(None, None).fingerprint == data.first(10, 3).fingerprint == data.fingerprint


@pytest.mark.parametrize(("train", "test", "there"), [(11, None, "has 10"), (None, 4, "has 3"), (0, None, "has 10")])
def test_first_says_how_many_images_there_are(folder, train, test, there):
    with pytest.raises(InputError, match=there):
        load_data(str(folder), None).first(train, test)


def test_the_search_halves_are_the_first_and_the_second_half(folder):
    data = load_data(str(folder), None).first(9, None)
    weights_images, weights_labels, alphas_images, alphas_labels = data.search_halves()
    assert (len(weights_images), len(alphas_images)) == (4, 5)
    assert torch.equal(torch.cat([weights_images, alphas_images]), data.train_images)
    assert torch.equal(torch.cat([weights_labels, alphas_labels]), data.train_labels)


def test_one_image_cannot_be_halved(folder):
    with pytest.raises(InputError, match="at least 2"):
        load_data(str(folder), None).first(1, None).search_halves()


def test_the_fingerprint_covers_pixels_labels_and_class_names(folder):
    data = load_data(str(folder), None)
    fingerprints = {data.fingerprint}
    (folder / "train" / "cat").rename(folder / "train" / "bat")
    (folder / "test" / "cat").rename(folder / "test" / "bat")
    fingerprints.add(load_data(str(folder), None).fingerprint)
    (folder / "train" / "bat" / "0.png").rename(folder / "train" / "dog" / "zero.png")
    fingerprints.add(load_data(str(folder), None).fingerprint)
    assert len(fingerprints) == 3


def test_to_moves_all_four_tensors(folder):
    data = load_data(str(folder), None).to("meta")
    tensors = data.train_images, data.train_labels, data.test_images, data.test_labels
    assert {t.device.type for t in tensors} == {"meta"}
