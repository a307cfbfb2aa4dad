"""The detector reads clean renderings, and denies captions that are wrong."""

from dataclasses import replace

import numpy as np
import pytest
from detect import connected_parts, judge, load_picture, nearest_color
from scenes import COLORS, PLACES, SHAPES, Scene, SceneObject, caption, render, sample_scene

SIDE = 512
RENDERINGS = 80


@pytest.fixture(scope="module")
def renderings():
    """Scenes of all materials and patterns with one to three objects, and their pictures."""
    rng = np.random.default_rng(11)
    scenes = [sample_scene(rng, (0.5, 0.4, 0.1)) for _ in range(RENDERINGS)]
    return [(scene, render(scene, SIDE, rng)) for scene in scenes]


def one_object(scene: Scene, **changes: str) -> str:
    """The caption with the first object changed."""
    changed = replace(scene.objects[0], **changes)
    return caption(replace(scene, objects=(changed, *scene.objects[1:])))


def other(words, word):
    """The word that follows in the list."""
    words = list(words)
    return words[(words.index(word) + 1) % len(words)]


def test_clean_renderings_are_read(renderings):
    verdicts = [judge(picture, caption(scene)) for scene, picture in renderings]
    objects = [o for v in verdicts for o in v.objects]
    for attribute in ("found", "color", "place", "shape", "right"):
        share = sum(getattr(o, attribute) for o in objects) / len(objects)
        assert share >= 0.95, attribute
    # A prompt counts when all its objects do: some paints equal their background by chance.
    assert sum(v.right for v in verdicts) / len(verdicts) >= 0.92


@pytest.mark.parametrize(
    ("attribute", "words"), [("color", COLORS), ("place", PLACES), ("shape", SHAPES)]
)
def test_wrong_captions_are_denied(renderings, attribute, words):
    singles = [(s, p) for s, p in renderings if len(s.objects) == 1][:20]
    for scene, picture in singles:
        word = other(words, getattr(scene.objects[0], attribute))
        verdict = judge(picture, one_object(scene, **{attribute: word}))
        assert not verdict.right
        assert not getattr(verdict.objects[0], attribute)


def test_wrong_backgrounds_are_denied():
    star = SceneObject("large", "red", "plain", "star", "top")
    picture = render(Scene("teal", "plain", (star,)), SIDE)
    right = "a large red star at the top on a teal background"
    assert judge(picture, right).right
    assert not judge(picture, right.replace("teal", "beige")).right


def test_missing_and_extra_objects_are_noticed():
    star = SceneObject("small", "blue", "plain", "star", "top right")
    ring = SceneObject("small", "yellow", "plain", "ring", "bottom left")
    both, alone = Scene("grey", "plain", (star, ring)), Scene("grey", "plain", (star,))
    missing = judge(render(alone, SIDE), caption(both))
    assert [o.found for o in missing.objects] == [True, False]
    assert not missing.right
    extra = judge(render(both, SIDE), caption(alone))
    assert extra.extra_objects == 1
    assert extra.objects[0].right
    assert not extra.right


def test_swapped_colours_are_noticed():
    star = SceneObject("large", "blue", "plain", "star", "right")
    ring = SceneObject("large", "yellow", "plain", "ring", "left")
    picture = render(Scene("grey", "plain", (star, ring)), SIDE)
    swapped = Scene(
        "grey", "plain", (replace(star, color="yellow"), replace(ring, color="blue"))
    )
    assert not any(o.right for o in judge(picture, caption(swapped)).objects)


def test_an_empty_picture_has_no_objects():
    grey = np.full((SIDE, SIDE, 3), 128, np.uint8)
    verdict = judge(grey, "a large red star at the top on a grey background")
    assert not verdict.objects[0].found
    assert not verdict.right


@pytest.mark.parametrize("side", [128, 256])
def test_smaller_pictures_are_read_too(side):
    rng = np.random.default_rng(12)
    scene = Scene("olive", "wavy", (SceneObject("large", "pink", "dotted", "heart", "left"),))
    assert judge(render(scene, side, rng), caption(scene)).right


def test_noise_of_a_few_levels_changes_nothing(renderings):
    rng = np.random.default_rng(13)
    for scene, picture in renderings[:10]:
        noisy = picture + rng.normal(0, 0.03, picture.shape)
        assert judge(noisy, caption(scene)).right == judge(picture, caption(scene)).right


def test_a_png_file_is_read(tmp_path):
    from PIL import Image

    scene = Scene("grey", "plain", (SceneObject("large", "green", "plain", "square", "center"),))
    path = tmp_path / "picture.png"
    Image.fromarray(np.uint8(render(scene, 256) * 255)).save(path)
    assert judge(path, caption(scene)).right


def test_parts_are_found_by_connection():
    mask = np.zeros((64, 64), bool)
    mask[4:20, 4:20] = True
    mask[30:60, 30:34] = mask[56:60, 10:34] = mask[30:60, 10:14] = True  # a U
    mask[0, 63] = True  # a crumb
    parts = connected_parts(mask)
    assert [int(p.sum()) for p in parts] == [304, 256]


@pytest.mark.parametrize("color", COLORS)
def test_colours_are_named_under_shading(color):
    background = "grey" if color != "grey" else "olive"
    scene = Scene(background, "plain", (SceneObject("large", color, "plain", "circle", "center"),))
    pixels = load_picture(render(scene, SIDE))
    axis = (np.arange(128) + 0.5) / 128 - 0.5
    assert nearest_color(pixels, np.hypot(axis[None], axis[:, None]) < 0.2) == color
