"""The held-out prompts and the table of prompt accuracy."""

import sys
from pathlib import Path

import numpy as np
import prompt_accuracy
import prompts
from PIL import Image
from scenes import caption, parse_caption, render

PROMPTS = Path(prompts.__file__).with_name("prompts.txt").read_text(encoding="utf-8").splitlines()


def test_there_are_64_different_prompts_and_all_are_captions():
    assert len(PROMPTS) == len(set(PROMPTS)) == 64
    for prompt in PROMPTS:
        assert caption(parse_caption(prompt)) == prompt


def test_prompts_repeat_with_the_seed():
    assert prompts.held_out_prompts(2) == PROMPTS[:2]


def test_folders_of_pictures_are_judged(tmp_path, monkeypatch, capsys):
    for index, prompt in enumerate(PROMPTS[:3]):
        scene = parse_caption(prompt)
        Image.fromarray(np.uint8(render(scene, 256) * 255)).save(tmp_path / f"{index:02d}.png")
    report = tmp_path / "report.json"
    arguments = ["--pictures", f"clean={tmp_path}", "--limit", "3", "--json", str(report)]
    monkeypatch.setattr(sys, "argv", ["prompt_accuracy.py", *arguments])
    prompt_accuracy.main()
    assert "| clean | 100.0 % |" in capsys.readouterr().out
    assert '"prompt_right": 1.0' in report.read_text(encoding="utf-8")


def test_the_command_line_carries_every_setting():
    painter = prompt_accuracy.Painter(
        program=Path("tamias"),
        model=Path("model"),
        sparsity="demo",
        side=512,
        steps=50,
        guidance=3.0,
        dtype="bf16",
        threads=2,
    )
    command = painter.command("a prompt", 7, Path("00.png"))
    assert command[:2] == ["tamias", "generate"]
    options = dict(zip(command[2::2], command[3::2], strict=False))
    assert options["--prompt"] == "a prompt"
    assert options["--negative-prompt"] == ""
    assert options["--sparsity"] == "demo"
    assert options["--dtype"] == "bf16"
    assert options["--seed"] == "7"
    assert options["--threads"] == "2"
