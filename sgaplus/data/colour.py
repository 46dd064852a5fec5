"""Colours of a photograph file as sRGB, as a colour-managed viewer shows them.

An embedded ICC profile counts first, then a PNG's own statements: sRGB, or else the gamma in ``gAMA``. A file
without any is sRGB.
"""

import contextlib
import io
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from PIL import Image, ImageCms

# A profile or gamma that moves no colour further than this (of 255) is sRGB in another spelling: many
# profiles are, with curves rounded in their own way, and such pixels are read exactly as they are stored.
_SAME = 2
_SRGB = ImageCms.createProfile("sRGB")
# White, red, green and blue, each as x and y.
_SRGB_PRIMARIES, _PRIMARIES_TOLERANCE = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06), 0.01
# PNG writers state sRGB as the gamma 1/2.2, and libpng takes values this close to it for the same.
_SRGB_GAMMA, _GAMMA_TOLERANCE = 1 / 2.2, 0.05
# Colour spaces of profiles, and Pillow's modes for their pixels.
_MODES = {"GRAY": "L", "RGB": "RGB", "CMYK": "CMYK", "LAB": "LAB"}


_UNUSABLE = (ImageCms.PyCMSError, OSError, TypeError, ValueError)
# What a file states about its colours, in Pillow's words.
_STATED = ("icc_profile", "srgb", "gamma", "chromaticity")

Statements = Mapping[str, Any]


def stated(image: Image.Image) -> Statements:
    """What ``image`` says about its colours; Pillow loses some of it when an image is converted."""
    return {name: image.info[name] for name in _STATED if image.info.get(name) is not None}


def to_srgb(image: Image.Image, stated: Statements, notes: list[str]) -> Image.Image:
    """``image`` (8 bits, mode L, RGB, CMYK or LAB) as sRGB, mode RGB; ``notes`` get what was converted."""
    profile = _profile(stated, notes)
    space = profile.profile.xcolor_space.strip() if profile else ""
    if space == "RGB" and image.mode == "L":
        image = image.convert("RGB")
    if profile and _MODES.get(space) != image.mode:
        notes.append(f"its ICC profile is for {space or 'something else'} and is ignored")
        profile = None
    if image.mode == "LAB":
        return _transformed(image, profile or ImageCms.createProfile("LAB"))
    if profile:
        with contextlib.suppress(*_UNUSABLE):
            return _by_profile(image, profile, notes)
        notes.append("its ICC profile cannot be used and is ignored")
    elif curve := _gamma_curve(stated, image.mode, notes):
        table = (255 * curve(np.arange(256) / 255)).round().astype(int).tolist()
        image = image.point(table * len(image.getbands()))
    return image.convert("RGB")


def deep_grey_to_srgb(grey: np.ndarray, stated: Statements, notes: list[str]) -> np.ndarray:
    """Greyscale samples of more than 8 bits, in [0, 1], in sRGB; a profile is only noted."""
    if profile := _profile(stated, notes):
        levels = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
        if profile.profile.xcolor_space.strip() == "RGB":
            levels = levels.convert("RGB")
        same = False
        with contextlib.suppress(*_UNUSABLE):
            same = _is_same(levels, _transformed(levels, profile))
        if not same:
            notes.append("its ICC profile is ignored")
    elif curve := _gamma_curve(stated, "L", notes):
        return curve(grey)
    return grey


def _profile(stated: Statements, notes: list[str]) -> ImageCms.ImageCmsProfile | None:
    if not stated.get("icc_profile"):
        return None
    try:
        return ImageCms.ImageCmsProfile(io.BytesIO(stated["icc_profile"]))
    except _UNUSABLE:
        notes.append("its ICC profile is damaged and is ignored")
        return None


def _by_profile(image: Image.Image, profile: ImageCms.ImageCmsProfile, notes: list[str]) -> Image.Image:
    if image.mode != "CMYK":
        steps = np.arange(0, 256, 15, dtype=np.uint8)
        colours = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(len(steps), -1, 3)
        probe = Image.fromarray(colours if image.mode == "RGB" else steps[None])
        if _is_same(probe, _transformed(probe, profile)):
            return image.convert("RGB")
    converted = _transformed(image, profile)
    name = (profile.profile.profile_description or "").strip() or "without a name"
    notes.append(f"its colours are converted to sRGB from its ICC profile ({name})")
    return converted


def _transformed(image: Image.Image, profile: Any) -> Image.Image:
    intent, flags = ImageCms.Intent.RELATIVE_COLORIMETRIC, ImageCms.Flags.BLACKPOINTCOMPENSATION
    converted = ImageCms.profileToProfile(image, profile, _SRGB, intent, "RGB", flags=flags)
    assert converted is not None, "without inPlace there is a new image"
    return converted


def _is_same(before: Image.Image, after: Image.Image) -> bool:
    distance = np.asarray(before.convert("RGB"), dtype=int) - np.asarray(after, dtype=int)
    return int(np.abs(distance).max()) <= _SAME


def _gamma_curve(
    stated: Statements, mode: str, notes: list[str]
) -> Callable[[np.ndarray], np.ndarray] | None:
    """What takes samples in [0, 1] of a PNG with a gamma to sRGB; None where they are sRGB."""
    if "srgb" in stated:
        return None
    primaries = stated.get("chromaticity", _SRGB_PRIMARIES)
    if mode != "L" and np.abs(np.subtract(primaries, _SRGB_PRIMARIES)).max() > _PRIMARIES_TOLERANCE:
        notes.append("its primaries (cHRM) differ from those of sRGB and are ignored")
    gamma = stated.get("gamma", _SRGB_GAMMA)
    if gamma <= 0 or abs(gamma / _SRGB_GAMMA - 1) < _GAMMA_TOLERANCE:
        return None
    notes.append(f"its gamma ({gamma:g}) is converted to that of sRGB")

    def curve(samples: np.ndarray) -> np.ndarray:
        linear = samples ** (1 / gamma)
        return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)

    return curve
