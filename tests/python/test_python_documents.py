"""What the documents show of Python runs as it stands: the notebook, the example, and the code of docs/python.md."""

import json
import re
import runpy

import pytest
from conftest import ROOT


def test_the_notebook_runs(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    cells = json.loads((ROOT / "examples/tamias.ipynb").read_text())["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert len(code) >= 5
    names = {}
    for cell in code:
        exec(compile(cell, "tamias.ipynb", "exec"), names)
    assert names["compared"].psnr > 10
    assert names["error"] < 1
    printed = capsys.readouterr().out
    assert "sparse" in printed
    assert "left out" in printed


def test_the_example_of_sparse_attention_runs(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["sparse_attention.py", "--tokens", "400", "--share", "0.3"])
    runpy.run_path(str(ROOT / "examples/sparse_attention.py"), run_name="__main__")
    error = float(capsys.readouterr().out.rsplit(maxsplit=1)[-1])
    assert 0 < error < 0.3


def blocks(document):
    """The Python code of a document, without the indentation of lists."""
    for match in re.finditer(r"^( *)```python\n(.*?)^ *```", (ROOT / document).read_text(), re.DOTALL | re.MULTILINE):
        yield "\n".join(line.removeprefix(match[1]) for line in match[2].splitlines())


@pytest.mark.parametrize("document", ["docs/python.md", "README.md"])
def test_the_code_of_documents_runs(document, monkeypatch, tmp_path):
    (tmp_path / "models").symlink_to(ROOT / "models")
    monkeypatch.chdir(tmp_path)
    found = list(blocks(document))
    assert found
    names = {}
    for block in found:
        # Sizes of people make tests of a minute; the lines stay what they are.
        small = block.replace("4096", "256").replace("(1, 64, 64)", "(1, 16, 16)")
        small = re.sub(r"(generate|start)\(prompt", r"\1(prompt, steps=2, width=64, height=64", small)
        small = small.replace('background")', 'background", steps=2, width=64, height=64)')
        exec(compile(small, document, "exec"), names)
