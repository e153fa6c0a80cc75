"""What an evaluation's columns are called on disk, and on which images they are."""

import numpy as np
import pytest
from PIL import Image

from rcm.cells import BATCH, AttackSpec, CellSpec, Source, attack_label, cells_of, is_tested
from rcm.config import Attack, Shift
from rcm.data.datasets import Dataset, Split
from rcm.reporting import shift_notes


def dataset(each=10):
    labels = np.repeat(np.arange(3, dtype=np.int32), each)
    images = np.zeros((len(labels), 8, 8, 3), np.uint8)
    half = Split(images, labels)
    return Dataset("made", half, half, ("a", "b", "c"), "")


@pytest.mark.parametrize(
    ("attack", "label"),
    [
        (Attack("fgsm"), "fgsm"),
        (Attack("pgd", steps=20), "pgd20"),
        (Attack("pgd", steps=20, restarts=5), "pgd20x5"),
        (Attack("apgd_dlr", norm="l2"), "apgd_dlr10_l2"),
        (Attack("square", steps=300), "square300"),
    ],
)
def test_an_attack_is_called_by_what_it_may_do(attack, label):
    assert attack_label(attack) == label


def test_columns_are_all_shifts_with_subsets_of_their_own():
    attacks = (Attack("fgsm", eps=(2, 4)), Attack("pgd", eps=(8,)))
    corruptions = {"corruptions": ("contrast", "fog"), "severities": (1, 5), "images": 9}
    shift = Shift(**corruptions, attacks=attacks, attack_images=6)
    cells = cells_of(shift, dataset(), np.arange(3))
    assert [(cell.shift, cell.severity, len(cell.ids)) for cell in cells] == [
        ("clean", 0, 30), ("clean_val", 0, 3),
        ("contrast", 1, 9), ("contrast", 5, 9), ("fog", 1, 9), ("fog", 5, 9),
        ("fgsm", 2, 6), ("fgsm", 4, 6), ("pgd10", 8, 6),
    ]  # fmt: skip
    assert len({cell.key for cell in cells}) == len(cells)
    for cell in cells[2:]:
        assert np.bincount(cell.labels).tolist() == [len(cell.ids) // 3] * 3
    assert [cell.clean for cell in cells] == [True] * 2 + [False] * 7


def test_whatever_decides_the_pixels_is_in_the_name():
    images = (np.zeros((4, 8, 8, 3), np.uint8), np.zeros(4, np.int32), np.arange(4), 0)
    attacks = [Attack(), Attack(step_size=0.1), Attack(restarts=2), Attack(steps=11),
               Attack(norm="l2"), Attack("apgd_ce")]  # fmt: skip
    keys = {AttackSpec(attack, eps, *images).key for attack in attacks for eps in (1, 2.5)}
    assert len(keys) == 2 * len(attacks)


def test_transferred_images_are_for_the_other_of_a_pair():
    attacks = (Attack("fgsm", eps=(2, 4)), Attack("pgd", eps=(8,), transfer=True))
    sources = [Source("dense", "a", ("int8", "prune50")), Source("int8", "b", ("dense",)),
               Source("prune50", "c", ("dense",))]  # fmt: skip
    shift = Shift(attacks=attacks)
    cells = cells_of(shift, dataset(), np.arange(0), sources=sources)[1:]
    assert [(c.shift, c.eps, c.source, c.mark) for c in cells] == [
        ("fgsm", 2, "", ""), ("fgsm", 4, "", ""), ("pgd10", 8, "", ""),
        ("pgd10", 8, "dense", "a"), ("pgd10", 8, "int8", "b"), ("pgd10", 8, "prune50", "c"),
    ]  # fmt: skip
    assert len({cell.key for cell in cells}) == len(cells)
    other = cells[-1]._replace(mark="d")  # other members under the same name
    assert other.key != cells[-1].key
    tested = [[is_tested(cell, one.source) for cell in cells] for one in sources]
    assert tested == [[True] * 3 + [False, True, True], *[[True] * 4 + [False] * 2] * 2]


def test_frost_is_named_after_its_textures(tmp_path):
    Image.new("RGB", (200, 200), (9, 9, 9)).save(tmp_path / "a.png")
    images = (np.zeros((4, 32, 32, 3), np.uint8), np.zeros(4, np.int32), np.arange(4), 0)
    drawn = CellSpec("frost", 1, *images)
    supplied = drawn._replace(frost_dir=str(tmp_path))
    assert drawn.key == "frost-drawn-1-n4-seed0"
    assert supplied.key.startswith("frost-photographs")
    assert (supplied.batch(0) != drawn.batch(0)).any()
    assert supplied.batch(0).shape == (BATCH, 32, 32, 3)
    assert "drawn by rcm" in shift_notes(Shift(corruptions=("frost",)))[0]
    assert "supplied" in shift_notes(Shift(corruptions=("frost",), frost_dir=str(tmp_path)))[0]
    assert shift_notes(Shift(corruptions=("fog",))) == []


def test_blurs_that_small_images_do_not_show_are_named():
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    rest = (np.zeros(4, np.int32), np.arange(4), 0)

    def cells(side):
        shown = images[:, :side, :side]
        names = ("clean", 0), ("defocus_blur", 3), ("defocus_blur", 4), ("contrast", 4)
        return [CellSpec(name, severity, shown, *rest) for name, severity in names]

    assert shift_notes(Shift(), cells(32)) == []
    (note,) = shift_notes(Shift(), cells(16))
    assert "defocus_blur/4 changed nothing" in note
    assert "/3" not in note
