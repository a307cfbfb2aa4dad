"""Errors about types: one line that names the argument, wherever the compiled part is called; and its stub, which names
every argument and every error class."""

import ast
from pathlib import Path

import numpy as np
import pytest
import tamias
from tamias import ops

STUB = Path(tamias.__file__).with_name("_tamias.pyi")
X = np.zeros((1, 1, 8, 16), np.float32)


def frozen():
    array = X.copy()
    array.flags.writeable = False
    return array


SESSION = {"grid": (1, 2, 4), "num_layers": 1, "num_heads": 1, "head_dim": 16, "model_dim": 16}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ops.dense_attention(X, X, X, scale="x"), "scale: expected a number, found <class 'str'>"),
        (lambda: ops.dense_attention(X, X, X, out=frozen()), "out: expected an array that can be written, found one that cannot"),
        (lambda: ops.dense_attention(X, X, X, context=3), "context: expected tamias.ops.Context, found <class 'int'>"),
        (lambda: ops.top_k_mask(X[0, 0], "a"), "k: expected a whole number, found <class 'str'>"),
        (lambda: ops.linear(X, X[0, 0], activation=3), "activation: expected a text, found <class 'int'>"),
        (lambda: ops.Context(threads="x"), "threads: expected a whole number, found <class 'str'>"),
        (lambda: tamias.SparsityConfig().set(3), "assignment: expected a text, found <class 'int'>"),
        (lambda: tamias.SparsityConfig.load(3), "name: expected a text or a path, found <class 'int'>"),
        (lambda: tamias.SparsityConfig().set(), "assignment: expected a value, found none"),
        (lambda: tamias.SparsityConfig.load(), "name: expected a value, found none"),
        (lambda: tamias.SparsityConfig().set(text="a"), "text: expected no such argument; expected assignment"),
        (lambda: tamias.write_image(3, X[0]), "path: expected a text or a path, found <class 'int'>"),
        (lambda: tamias.write_image("a.png", "b"), "image: expected an array"),
        (lambda: tamias.write_image("a.png", X[0], {1: 2}), "text: expected a dictionary as"),
        (lambda: tamias.SparseSession(3, **SESSION), "config: expected tamias.SparsityConfig, a profile or a path"),
        (lambda: tamias.SparseSession("demo", **SESSION | {"num_heads": "d"}), "num_heads: expected a whole number"),
        (lambda: tamias.SparseSession("demo", **SESSION | {"grid": (1, 2, "d")}), "grid: expected whole numbers"),
        (lambda: tamias.DeltaMlp("demo", tokens=4, model_dim=3, mlp_dim=3, seed="a"), "seed: expected a whole number"),
        (lambda: tamias.DeltaMlp("demo", tokens="4", model_dim=3, mlp_dim=3), "tokens: expected a whole number"),
        (lambda: tamias.MlpWeights(X[0, 0], X[0, 0], gated=3), "gated: expected True or False"),
        (lambda: tamias.accelerate(3), "accelerate: expected a pipeline with a transformer, found int"),
    ],
)  # fmt: skip
def test_type_errors_name_the_argument(call, message):
    with pytest.raises((TypeError, tamias.Error)) as error:
        call()
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_the_stub_names_everything():
    module = ast.parse(STUB.read_text())
    for node in ast.walk(module):
        if isinstance(node, ast.FunctionDef):
            names = [argument.arg for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
            assert not [name for name in names if name.startswith("arg")], node.name
    classes = {
        node.name: [ast.unparse(base) for base in node.bases] for node in module.body if isinstance(node, ast.ClassDef)
    }
    assert classes["Error"] == ["RuntimeError"]
    assert classes["InvalidArgumentError"] == ["Error", "ValueError"]
    errors = {
        name for name, value in vars(tamias).items() if isinstance(value, type) and issubclass(value, tamias.Error)
    }
    assert len(errors) == 10 and errors <= classes.keys()
    assert tamias.InvalidArgumentError.__module__ == "tamias"
