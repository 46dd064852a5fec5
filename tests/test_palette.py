"""One look for each method, which readers with any colour vision can tell apart."""

from itertools import combinations

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from skimage import color

from companion import palette

# Linear RGB as protanopes and deuteranopes see it (Machado et al. 2009, severity 1).
VISIONS = {
    "trichromat": np.eye(3),
    "protanope": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "deuteranope": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
}


def lab(colour: str, vision) -> np.ndarray:
    """CIELAB of a colour as it is seen."""
    linear = color.rgb2xyz(to_rgb(colour)) @ color.colorconv.rgb_from_xyz.T
    return color.xyz2lab(np.clip(np.array(vision) @ linear, 0, 1) @ color.colorconv.xyz_from_rgb.T)


@pytest.mark.parametrize("vision", VISIONS)
def test_methods_of_different_colours_are_told_apart(vision):
    colours = {look[0] for look in palette.METHODS.values()}
    for one, other in combinations(sorted(colours), 2):
        distance = np.linalg.norm(lab(one, VISIONS[vision]) - lab(other, VISIONS[vision]))
        assert distance > 15, (one, other)


def test_no_two_methods_share_a_look_and_marker():
    looks = list(palette.METHODS.values())
    assert len({look[:2] for look in looks}) == len({look[2] for look in looks}) == len(looks)
    two_class = [look[0] for name, look in palette.METHODS.items() if "three-class" not in name]
    assert len(set(two_class)) == len(two_class)


def test_a_method_looks_the_same_whatever_stands_beside_it():
    alone = palette.looks(["STE"])["STE"]
    assert palette.looks(["something", "fast (100 steps)", "STE"])["STE"] == alone
    assert palette.for_seaborn(["STE", "base"])["palette"]["STE"] == alone["color"]
    assert palette.looks(["fast (100 steps)"])["fast (100 steps)"] == palette.looks(["fast"])["fast"]


def test_what_is_no_method_has_no_methods_colour():
    methods = {look[0] for look in palette.METHODS.values()}
    names = [f"codec {position}" for position in range(12)]
    looks = palette.looks(["base", *names])
    others = {palette.colour(position) for position in range(12)} | {looks[n]["color"] for n in names}
    others |= {look[0] for look in palette.PUBLISHED.values()}
    assert not methods & others
    assert len({tuple(map(str, looks[name].values())) for name in names}) > 8
    assert len({look[:2] for look in palette.PUBLISHED.values()}) == len(palette.PUBLISHED)


def test_legends_have_the_books_order_and_numbers_go_from_dark_to_light():
    assert palette.in_order(["x", "atanh (SGA)", "base"]) == ["base", "atanh (SGA)", "x"]
    assert palette.for_seaborn(["x", "atanh (SGA)", "base"])["hue_order"] == ["base", "atanh (SGA)", "x"]
    brightness = [sum(colour) for colour in palette.ordered([500, 25, 100]).values()]
    assert list(palette.ordered([500, 25])) == [25, 500] and brightness == sorted(brightness)
