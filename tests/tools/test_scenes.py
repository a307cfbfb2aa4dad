"""The scenes that the demo model is trained on, and their captions."""

import numpy as np
import pytest
from scenes import (
    BACKGROUNDS,
    COLORS,
    MATERIALS,
    PATTERNS,
    PLACES,
    SHAPES,
    SIZES,
    Scene,
    SceneObject,
    Window,
    caption,
    parse_caption,
    render,
    sample_scene,
    signed_distance,
)

STAR = SceneObject("small", "blue", "plain", "star", "right")
CIRCLE = SceneObject("large", "red", "striped", "circle", "top left")


def test_caption_says_size_pattern_colour_shape_and_place():
    scene = Scene("grey", "plain", (CIRCLE, STAR))
    assert caption(scene) == (
        "a large striped red circle at the top left and a small blue star at the right"
        " on a grey background"
    )


@pytest.mark.parametrize(
    ("material", "ending"),
    [("gradient", "a teal gradient background"), ("wooden", "a wooden teal background")],
)
def test_caption_names_the_material(material, ending):
    assert caption(Scene("teal", material, (STAR,))).endswith(f" on {ending}")


def test_every_caption_is_read_back():
    rng = np.random.default_rng(1)
    for _ in range(500):
        scene = sample_scene(rng)
        assert parse_caption(caption(scene)) == scene


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a small blue star",
        "a small blue star at the right on a plaid background",
        "a tiny blue star at the right on a grey background",
        "a small blue blob at the right on a grey background",
        "a small blue star at the right on a wooden plain grey background",
    ],
)
def test_what_is_no_caption_is_refused(text):
    with pytest.raises(ValueError, match="not a|unknown"):
        parse_caption(text)


def test_scenes_use_every_word():
    rng = np.random.default_rng(2)
    scenes = [sample_scene(rng) for _ in range(400)]
    objects = [o for s in scenes for o in s.objects]
    assert {s.background for s in scenes} == set(BACKGROUNDS)
    assert {s.material for s in scenes} == set(MATERIALS)
    assert {o.color for o in objects} == set(COLORS)
    assert {o.shape for o in objects} == set(SHAPES)
    assert {o.pattern for o in objects} == set(PATTERNS)
    assert {o.place for o in objects} == set(PLACES)
    assert {o.size for o in objects} == set(SIZES)


def test_objects_stand_apart_and_differ_from_the_background():
    rng = np.random.default_rng(3)
    for _ in range(300):
        scene = sample_scene(rng)
        assert 1 <= len(scene.objects) <= 3
        for i, first in enumerate(scene.objects):
            assert first.color != scene.background
            for second in scene.objects[:i]:
                gap = np.hypot(*np.subtract(PLACES[first.place], PLACES[second.place]))
                assert gap > SIZES[first.size] + SIZES[second.size]


def test_rendering_is_a_picture_and_repeats_with_the_seed():
    scene = Scene("navy", "wooden", (CIRCLE, STAR))
    first = render(scene, 96, np.random.default_rng(4))
    assert first.shape == (96, 96, 3)
    assert first.dtype == np.float32
    assert 0 <= first.min() < first.max() <= 1
    np.testing.assert_array_equal(first, render(scene, 96, np.random.default_rng(4)))


@pytest.mark.parametrize("material", MATERIALS)
@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_window_is_that_part_of_the_whole_picture(material, pattern):
    far = SceneObject("large", "cyan", pattern, "cross", "bottom right")
    scene = Scene("olive", material, (far, CIRCLE))
    whole = render(scene, 128, np.random.default_rng(5))
    part = render(scene, 128, np.random.default_rng(5), Window(16, 40, 48, 64))
    np.testing.assert_allclose(part, whole[16:64, 40:104], atol=1e-6)


@pytest.mark.parametrize("place", PLACES)
def test_objects_stand_where_the_caption_says(place):
    scene = Scene("grey", "plain", (SceneObject("small", "red", "plain", "circle", place),))
    picture = render(scene, 128)
    rows, columns = np.nonzero(picture[..., 0] - picture[..., 2] > 0.2)
    center = ((columns.mean() + 0.5) / 128, (rows.mean() + 0.5) / 128)
    np.testing.assert_allclose(center, PLACES[place], atol=0.01)


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_have_an_inside_and_scale_with_the_radius(shape):
    axis = (np.arange(-120, 120) + 0.5) / 80
    x, y = np.meshgrid(axis, axis)
    inside = signed_distance(shape, x, y, 1.0) < 0
    assert 0.9 < inside.sum() / 80**2 < 3.2  # a circle of radius 1 has area 3.14
    twice = signed_distance(shape, 2 * x, 2 * y, 2.0) < 0
    np.testing.assert_array_equal(inside, twice)
    mirrored = inside[:, ::-1]
    np.testing.assert_array_equal(inside, mirrored)


def test_resolutions_show_the_same_scene():
    scene = Scene("beige", "gradient", (CIRCLE, STAR))
    fine, coarse = render(scene, 256), render(scene, 64)
    averaged = fine.reshape(64, 4, 64, 4, 3).mean((1, 3))
    assert np.abs(averaged - coarse).mean() < 0.01
