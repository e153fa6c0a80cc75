"""Hostile data sets, photographs, released sets and prepared copies."""

import functools
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from rcm.data import cache, datasets
from rcm.data.identity import RawArrays, describe, fingerprint
from rcm.data.official import Release
from rcm.shift import frost
from tests.hostile.making import (
    ESCAPE,
    FORMULA,
    POSTSCRIPT,
    Row,
    claiming,
    deep,
    loop,
    lying_size,
    npy,
    npy_of,
    objects,
    pipe,
    png,
    put,
    savez,
    zipped,
)

SOUND: dict[str, Any] = {
    "train_images": np.zeros((6, 8, 8, 3), np.uint8),
    "train_labels": np.arange(6) % 2,
    "test_images": np.zeros((4, 8, 8, 3), np.uint8),
    "test_labels": np.arange(4) % 2,
    "classes": np.array(["ant", "bee"]),
}


def data_set(path: Path) -> Any:
    return datasets.load(str(path), cache_dir=path.parent / "cache")


def with_arrays(name: str = "a.npz", **changed: Any) -> Any:
    """A data set, some of its arrays replaced."""
    return lambda folder: savez(folder, name, **{**SOUND, **changed})


def with_part(part: bytes, name: str = "train_labels.npy") -> Any:
    """A data set, the bytes of one of its arrays replaced."""
    parts = [(f"{own}.npy", npy(array)) for own, array in SOUND.items()]
    kept = [(own, content) for own, content in parts if own != name.removeprefix("../")]
    return lambda folder: put(folder, "a.npz", zipped([*kept, (name, part)]))


def in_folder(name: str, make: Any) -> Any:
    """A folder of arrays, of which `make(folder, file name)` replaces one."""

    def made(folder: Path) -> Path:
        for own, array in SOUND.items():
            put(folder, f"set/{own}.npy", npy(array))
        (folder / "set" / f"{name}.npy").unlink()
        make(folder / "set", f"{name}.npy")
        return folder / "set"

    return made


def placed(content: bytes) -> Any:
    return lambda folder, name: put(folder, name, content)


def bomb(folder: Path) -> Path:
    """Ten million zeros in ten thousand bytes."""
    return put(folder, "a.npz", zipped([("train_images.npy", npy(np.zeros(10**7, np.uint8)))]))


def two_of_one_name(folder: Path) -> Path:
    """`zipfile` warns of what it is made to write here."""
    kept = [(f"{own}.npy", npy(array)) for own, array in SOUND.items()]
    archive = zipped([*kept, ("train_label_.npy", npy(np.ones(6, int)))])
    return put(folder, "a.npz", archive.replace(b"train_label_", b"train_labels"))


HEADER_CODE = "{'descr': '|u1', 'shape': (__import__('os').mkdir('executed'),)}"

DATA = [
    Row("pickled-labels", lambda f: with_arrays(train_labels=objects(f))(f), data_set,
        r"cannot read train_labels \(.*it holds pickled objects\)"),
    Row("pickle-called-npz", lambda f: put(f, "a.npz", objects(f).dumps()), data_set,
        "a.npz: cannot read its arrays .*damaged"),
    Row("pickled-npy", lambda f: in_folder("classes", placed(npy(objects(f))))(f), data_set,
        r"classes.npy: cannot read classes \(it holds pickled objects\)"),
    Row("claims-100-GB", with_part(claiming((10**11,))), data_set,
        "says 100,000,000,000 bytes of numbers and has 3"),
    Row("claims-by-overflow", with_part(claiming((2**32, 2**32))), data_set,
        "says 18,446,744,073,709,551,616 bytes of numbers and has 3"),
    Row("negative-shape", with_part(claiming((-1,))), data_set, "says -1 bytes of numbers"),
    Row("directory-claims-4-GB",
        lambda f: put(f, "a.npz", lying_size(zipped([("classes.npy", b"x")]), 2**32 - 2)), data_set,
        r"would unpack \d+ bytes to 4,294,967,294, more than 100 times"),
    Row("zip-bomb", bomb, data_set, r"would unpack [\d,]+ bytes to 10,000,128"),
    Row("one-array-twice", two_of_one_name, data_set, "holds the array 'train_labels' twice"),
    Row("no-array", with_part(b"\x80\x04N.", "train_labels"), data_set,
        "its part 'train_labels' is no array as np.savez writes them"),
    Row("other-compression",
        lambda f: put(f, "a.npz", zipped([("classes.npy", npy(SOUND["classes"]))],
                                         zipfile.ZIP_LZMA)), data_set,
        "its part 'classes' is no array as np.savez"),
    Row("outside-its-folder", with_part(npy(SOUND["train_labels"]), "../train_labels.npy"),
        data_set, "a.npz has no array train_labels"),
    Row("code-in-header", with_part(npy_of(HEADER_CODE)), data_set,
        "it does not begin as an array does"),
    Row("nested-header", with_part(npy_of("(" * 900)), data_set,
        "it does not begin as an array does"),
    Row("long-header", with_part(npy_of("{" + " " * 20_000 + "}")), data_set,
        "it does not begin as an array does"),
    Row("empty", lambda f: put(f, "a.npz", b""), data_set, "a.npz: cannot read its arrays"),
    Row("loop", lambda f: loop(f, "a.npz"), data_set, "unknown data set"),
    Row("pipe", lambda f: pipe(f, "a.npz"), data_set, "unknown data set"),
    Row("pipe-in-folder", in_folder("train_labels", pipe), data_set, "it is no ordinary file"),
    Row("npy-that-claims", in_folder("train_images", placed(claiming((10**11, 8, 8, 3)))), data_set,
        r"train_images.npy: cannot read train_images \(it says 19,200,000,000,000 bytes"),
    Row("npy-that-is-npz", in_folder("classes", placed(zipped([("a.npy", npy(np.ones(1)))]))),
        data_set, "it does not begin as an array does"),
    Row("structures", with_arrays(train_labels=np.zeros(6, "i4,f4")), data_set,
        "it holds structures, not plain numbers"),
    Row("complex-labels", with_arrays(train_labels=np.zeros(6, complex)), data_set,
        "train_labels is complex128, expected integers"),
    Row("nan-images", with_arrays(test_images=np.full((4, 8, 8, 3), np.nan)), data_set,
        "float64 with NaN, expected uint8"),
    Row("no-images", with_arrays(train_images=np.zeros((0, 8, 8, 3), np.uint8)), data_set,
        r"train_images has shape \(0, 8, 8, 3\)"),
    Row("labels-beyond", with_arrays(test_labels=np.full(4, 2**63, np.uint64)), data_set,
        "holds 9223372036854775808 to 9223372036854775808, expected 0 to 1"),
    Row("escape-in-class", with_arrays(classes=np.array(["ant", ESCAPE])), data_set,
        r"the name 'red \\x1b\[31m.*' holds letters that steer a terminal"),
    Row("lines-in-class", with_arrays(classes=np.array(["ant", "a\n# title"])), data_set,
        "holds letters that steer a terminal or cannot be seen"),
    Row("half-letter-in-class", with_arrays(classes=np.array(["ant", "\ud800"])), data_set,
        r"the name '\\ud800' holds letters"),
    Row("turned-class", with_arrays(classes=np.array(["ant", "\u202egnp.exe"])), data_set,
        r"the name '\\u202egnp.exe' holds letters"),
    Row("formula-in-class", with_arrays(classes=np.array(["ant", "-2+cmd|' /C calc'!A0"])),
        data_set, "begins like a formula, which a spreadsheet would run: rename it"),
    Row("endless-class", with_arrays(classes=np.array(["ant", "a" * 10_000])), data_set,
        "has 10,000 letters, expected at most 500"),
    Row("formula-in-file-name", with_arrays(f"{FORMULA}.npz"), data_set, "begins like a formula"),
]  # fmt: skip


def photographs(folder: Path) -> Any:
    return frost.photographs(str(folder), 8, 8)


def photograph(content: bytes, name: str = "a.png") -> Any:
    return lambda folder: put(folder, f"frost/{name}", content).parent


PHOTOGRAPHS = [
    Row("picture-of-3600-megapixels", photograph(png(60_000, 60_000)), photographs,
        "a.png cannot be read as an image .*more than 67,108,864 pixels.*remove or replace it"),
    Row("picture-of-68-megapixels", photograph(png(8193, 8192)), photographs,
        "it has 8193 x 8192 pixels, expected at most 67,108,864 in all"),
    Row("postscript-called-jpg", photograph(POSTSCRIPT, "a.jpg"), photographs,
        "it is none of JPEG, PNG, BMP, GIF, WEBP, or damaged"),
    Row("picture-without-pixels", photograph(png(100, 100)), photographs, "cannot be read as an"),
    Row("picture-of-no-size", photograph(png(0, 0)), photographs, "cannot be read as an image"),
    Row("pipe-called-png", lambda f: pipe(f, "frost/a.png").parent, photographs,
        "it is no ordinary file"),
    Row("pipe-that-is-hashed", lambda f: pipe(f, "frost/a.png").parent,
        lambda path: frost.source(str(path)), "it is no ordinary file"),
]  # fmt: skip

TEST = datasets.Split(SOUND["test_images"], SOUND["test_labels"].astype(np.int32))


def release(path: Path) -> Any:
    return Release(str(path), "own", TEST)


def labelled(content: Any) -> Any:
    return lambda folder: put(folder, "release/labels.npy", npy(content)).parent


RELEASES = [
    Row("pickled-release", lambda f: labelled(objects(f))(f), release,
        r"labels.npy cannot be read \(it holds pickled objects\)"),
    Row("label-of-terabytes", labelled(np.array([0, 1, 0, 2**31 - 1])), release,
        "labels.npy has not the labels of these 4 test images"),
    Row("labels-that-wrap-around", labelled(np.array([0, 1, 2**32, 2**32 + 1])), release,
        "labels.npy holds numbers that are no classes"),
    Row("release-that-claims",
        lambda f: put(f, "release/labels.npy", claiming((2**40,), "<i8")).parent, release,
        "it says 8,796,093,022,208 bytes of numbers and has 3"),
    Row("pipe-in-release", lambda f: pipe(f, "release/labels.npy").parent, release,
        "it is no ordinary file"),
]  # fmt: skip


def copied(meta: Any = None, **changed: Any) -> Any:
    """A copy of an array cache whose checksums are those of its arrays."""
    raw = RawArrays(**{**SOUND, "classes": ("ant", "bee"), **changed})

    def make(folder: Path) -> Path:
        cache.write(folder / "copy", raw)
        if meta is not None:
            put(folder, "copy/meta.json", meta)
        return folder / "copy"

    return make


def other_names(classes: Any) -> bytes:
    names = RawArrays._fields[:4]
    arrays = {name: describe(SOUND[name]) for name in names}
    told = {"format": 1, "fingerprint": fingerprint(arrays, classes), "classes": classes}
    return json.dumps({**told, "arrays": arrays}).encode()


def pickled_copy(folder: Path) -> Path:
    copy = copied()(folder)
    put(copy, "train_labels.npy", npy(objects(folder)))
    return copy


read_cache = functools.partial(cache.read, name="copy")

COPIES = [
    Row("nested-meta", copied(deep()), read_cache, "meta.json cannot be read .*nested too deeply"),
    Row("meta-said-twice", copied(b'{"format": 1, "format": 2}'), read_cache,
        "its JSON says 'format' twice"),
    Row("meta-of-lists", copied(b'{"format": 1, "fingerprint": "", "classes": [], "arrays": []}'),
        read_cache, "meta.json lacks fields"),
    Row("meta-with-numbers-for-names", copied(other_names([1, 2])), read_cache,
        "has names that are none"),
    Row("meta-with-escapes", copied(other_names(["ant", ESCAPE])), read_cache,
        "holds letters that steer a terminal"),
    Row("copied-labels-beyond", copied(train_labels=np.arange(6)), read_cache,
        "train_labels holds 0 to 5, expected 0 to 1"),
    Row("copied-pickle", pickled_copy, read_cache, "it holds pickled objects"),
]  # fmt: skip

ROWS = [*DATA, *PHOTOGRAPHS, *RELEASES, *COPIES]
