"""The clips that the video demo is trained on, and the detector that follows their object."""

from dataclasses import replace

import numpy as np
import pytest
from clips import (
    BACKGROUNDS,
    COLORS,
    MOTIONS,
    REACH,
    ROUND_SHAPES,
    SHAPES,
    Clip,
    Course,
    caption,
    frame_times,
    parse_caption,
    render,
    sample_clip,
)
from detect_motion import STILL, follow, judge_film, load_film, motion
from PIL import Image
from scenes import PLACES, Window

SIDE, FRAMES = 128, 17
STAR = Clip("red", "star", "moving left", "top", "grey")


def film(clip: Clip, seed: int | None = None) -> np.ndarray:
    rng = None if seed is None else np.random.default_rng(seed)
    return render(clip, SIDE, frame_times(FRAMES), rng)


def test_captions_are_read_back():
    rng = np.random.default_rng(0)
    for _ in range(200):
        clip = sample_clip(rng)
        assert parse_caption(caption(clip)) == clip


def test_a_caption_says_what_is_seen():
    assert caption(STAR) == "a red star moving left at the top on a grey background"


@pytest.mark.parametrize(
    "text",
    [
        "a red star at the top on a grey background",
        "a red star flying at the top on a grey background",
        "a red star moving left at the top on a plaid background",
        "",
    ],
)
def test_other_sentences_are_refused(text):
    with pytest.raises(ValueError, match="not a caption"):
        parse_caption(text)


def test_round_shapes_never_turn():
    rng = np.random.default_rng(1)
    clips = [sample_clip(rng) for _ in range(500)]
    assert {c.motion for c in clips} == set(MOTIONS)
    assert not any(c.motion == "rotating" and c.shape in ROUND_SHAPES for c in clips)


def test_courses_are_halfway_at_their_place():
    for name in MOTIONS:
        x, y, _, _ = Course.of(replace(STAR, motion=name)).at(0.5)
        assert (x, y) == pytest.approx(PLACES["top"])
    start, end = Course.of(STAR).at(0)[0], Course.of(STAR).at(1)[0]
    assert start - end == pytest.approx(2 * REACH)


def test_a_window_is_a_part_of_the_whole():
    whole = film(STAR, seed=3)
    window = Window(10, 20, 48, 40)
    part = render(STAR, SIDE, frame_times(FRAMES), np.random.default_rng(3), window)
    assert np.array_equal(part, whole[:, 10:58, 20:60])


def test_a_clip_shows_the_same_course_at_any_number_of_frames():
    assert np.array_equal(render(STAR, 64, frame_times(5)), render(STAR, 64, frame_times(9))[::2])


def test_clean_clips_are_read():
    rng = np.random.default_rng(5)
    verdicts = [
        judge_film(film(clip, seed), caption(clip))
        for seed, clip in enumerate(sample_clip(rng) for _ in range(20))
    ]
    assert sum(v.right for v in verdicts) >= 19


@pytest.mark.parametrize("name", MOTIONS)
def test_each_motion_is_named(name):
    clip = replace(STAR, motion=name, place="center")
    assert judge_film(film(clip), caption(clip)).seen.motion == name


def test_wrong_captions_are_denied():
    frames = film(STAR)
    assert judge_film(frames, caption(STAR)).right
    for field, word in {
        "color": "blue",
        "shape": "square",
        "motion": "moving right",
        "place": "bottom",
    }.items():
        verdict = judge_film(frames, caption(replace(STAR, **{field: word})))
        assert not getattr(verdict, field)
        assert not verdict.right


def test_a_wrong_background_is_denied():
    assert not judge_film(film(STAR), caption(replace(STAR, background="navy"))).right


def test_a_film_that_stands_still_has_no_motion():
    frames = np.repeat(film(STAR)[:1], FRAMES, axis=0)
    assert motion(follow(frames, "grey")) == STILL


def test_an_empty_film_has_no_object():
    grey = np.full((FRAMES, SIDE, SIDE, 3), 128, np.uint8)
    assert not judge_film(grey, caption(STAR)).found


def test_a_second_object_is_noticed():
    frames = film(STAR)
    frames[:, 90:115, 90:115] = 1.0
    assert not judge_film(frames, caption(STAR)).alone


@pytest.mark.parametrize("color", COLORS)
def test_colours_are_named_on_every_background(color):
    for background in BACKGROUNDS:
        clip = replace(STAR, color=color, background=background)
        assert judge_film(film(clip)[::8], caption(clip)).color


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_are_named(shape):
    clip = replace(STAR, shape=shape)
    assert judge_film(film(clip)[::4], caption(clip)).seen.shape == shape


def test_a_folder_of_frames_is_read(tmp_path):
    for number, frame in enumerate(film(STAR)):
        Image.fromarray(np.uint8(frame * 255)).save(tmp_path / f"{number:04d}.png")
    assert judge_film(load_film(tmp_path), caption(STAR)).right
    with pytest.raises(FileNotFoundError, match="no frames"):
        load_film(tmp_path / "none")
