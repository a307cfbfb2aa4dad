"""The held-out prompts of the video demo and the table of motion accuracy."""

import sys
from collections import Counter
from pathlib import Path

import motion_accuracy
import numpy as np
from accuracy import Painter
from clips import caption, frame_times, parse_caption, render
from PIL import Image

PROMPTS = Path(motion_accuracy.__file__).with_name("motion_prompts.txt").read_text(encoding="utf-8")
PROMPTS = PROMPTS.splitlines()


def test_there_are_32_different_prompts_and_every_motion_is_among_them():
    assert len(PROMPTS) == len(set(PROMPTS)) == 32
    clips = [parse_caption(prompt) for prompt in PROMPTS]
    assert [caption(clip) for clip in clips] == PROMPTS
    assert min(Counter(clip.motion for clip in clips).values()) >= 4


def test_folders_of_films_are_judged(tmp_path, monkeypatch, capsys):
    for index, prompt in enumerate(PROMPTS[:2]):
        folder = tmp_path / f"{index:02d}"
        folder.mkdir()
        for number, frame in enumerate(render(parse_caption(prompt), 128, frame_times(9))):
            Image.fromarray(np.uint8(frame * 255)).save(folder / f"{number:04d}.png")
    report = tmp_path / "report.json"
    arguments = ["--films", f"clean={tmp_path}", "--limit", "2", "--json", str(report)]
    monkeypatch.setattr(sys, "argv", ["motion_accuracy.py", *arguments])
    motion_accuracy.main()
    assert "| clean | 100.0 % |" in capsys.readouterr().out
    assert '"right": 1.0' in report.read_text(encoding="utf-8")


def test_the_command_line_carries_every_setting():
    painter = Painter(Path("tamias"), Path("model"), "off", 128, 50, 3.0, "auto", None, None)
    command = motion_accuracy.Filmer(painter, frames=33, fps=16).command("a prompt", 7, Path("07"))
    assert command[:2] == ["tamias", "generate"]
    for option, value in {
        "--prompt": "a prompt",
        "--seed": "7",
        "--frames": "33",
        "--fps": "16",
        "--frames-dir": "07",
        "--output": "07.mp4",
    }.items():
        assert command[command.index(option) + 1] == value
    assert "--max-sequence-length" not in command
