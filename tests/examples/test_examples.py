import json
import os
import re
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = Path(os.environ.get("TAMIAS_PROGRAM", ROOT / "build/release/tamias")).parent / "examples"
LLAMA = ROOT / "tests/data/models/llama-plain-tiny"


def run(name, *arguments):
    return subprocess.run(
        [EXAMPLES / name, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"OMP_WAIT_POLICY": "passive"},
    )


def read_safetensors(path):
    """The float tensors of a file."""
    data = path.read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + size])
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        values = data[8 + size :][slice(*entry["data_offsets"])]
        if entry["dtype"] == "BF16":
            tensor = (np.frombuffer(values, np.uint16).astype(np.uint32) << 16).view(np.float32)
        else:
            tensor = np.frombuffer(values, {"F32": np.float32, "F16": np.float16}[entry["dtype"]])
        tensors[name] = tensor.reshape(entry["shape"]).astype(np.float64)
    return tensors


def rows(output):
    """{keep: numbers} of llama_prefill's table; "dense" holds the last dense row."""
    table = {}
    for line in output.splitlines():
        if match := re.match(r"(dense|[\d.]+ +\d+) +[\d.]+ s", line):
            table[" ".join(match[1].split())] = [float(x) for x in re.findall(r"[\d.]+(?:e-?\d+)?", line)[-4:]]
    return table


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def loss_of_llama(tokens):
    """The loss over the next tokens, in plain NumPy and double precision."""
    config = json.loads((LLAMA / "config.json").read_text())
    tensors = read_safetensors(LLAMA / "model.safetensors")
    weights = {name.removeprefix("model."): tensor for name, tensor in tensors.items()}
    heads, key_heads = config["num_attention_heads"], config["num_key_value_heads"]
    head_dim = config.get("head_dim") or config["hidden_size"] // heads
    length = len(tokens)
    theta = config.get("rope_theta") or config["rope_parameters"]["rope_theta"]
    angles = np.outer(np.arange(length), theta ** (-np.arange(0, head_dim, 2) / head_dim))

    def norm(x, name):
        scale = np.sqrt((x * x).mean(-1, keepdims=True) + config["rms_norm_eps"])
        return x / scale * weights[name + ".weight"]

    def project(x, name):
        return x @ weights[name + ".weight"].T + weights.get(name + ".bias", 0)

    def turned(x, count):
        a, b = np.split(x.reshape(length, count, head_dim).swapaxes(0, 1), 2, axis=-1)
        cos, sin = np.cos(angles), np.sin(angles)
        return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)

    x = weights["embed_tokens.weight"][tokens]
    for i in range(config["num_hidden_layers"]):
        name = f"layers.{i}."
        h = norm(x, name + "input_layernorm")
        query = turned(project(h, name + "self_attn.q_proj"), heads)
        key = turned(project(h, name + "self_attn.k_proj"), key_heads)
        value = project(h, name + "self_attn.v_proj").reshape(length, key_heads, head_dim).swapaxes(0, 1)
        key, value = (np.repeat(t, heads // key_heads, axis=0) for t in (key, value))
        scores = query @ key.swapaxes(1, 2) / np.sqrt(head_dim)
        scores[:, np.triu(np.ones((length, length), bool), 1)] = -np.inf
        attended = (softmax(scores) @ value).swapaxes(0, 1).reshape(length, -1)
        x = x + project(attended, name + "self_attn.o_proj")
        h = norm(x, name + "post_attention_layernorm")
        gate = project(h, name + "mlp.gate_proj")
        x = x + project(gate / (1 + np.exp(-gate)) * project(h, name + "mlp.up_proj"), name + "mlp.down_proj")
    p = softmax(norm(x, "norm") @ weights["embed_tokens.weight"].T)
    return -np.log(p[np.arange(length - 1), tokens[1:]]).mean()


@pytest.fixture(scope="module")
def tokens():
    vocabulary = json.loads((LLAMA / "config.json").read_text())["vocab_size"]
    return np.random.default_rng(7).integers(0, vocabulary, 1000)


@pytest.fixture
def tokens_file(tmp_path, tokens):
    path = tmp_path / "tokens.txt"
    path.write_text(" ".join(map(str, tokens)))
    return path


def test_prefill_has_the_loss_of_the_model(tokens, tokens_file):
    result = run("llama_prefill", LLAMA, tokens_file, 0.999, 0.1, "0.1:192")
    assert result.returncode == 0, result.stderr
    table = rows(result.stdout)
    _, loss = table["dense"][-2:]
    assert abs(loss - loss_of_llama(tokens)) < 2e-4
    # pairs, loss, same next token, relative L2
    pairs, loss_of_most, same, error = table["0.999 16"]
    assert pairs > 99 and error < 0.02 and same > 99 and abs(loss_of_most - loss) < 0.01
    # Two of its three layers stay dense. The column sums of all rows choose better than those of a few.
    assert table["0.1 16"][0] < 90 and table["0.1 16"][3] > table["0.1 192"][3] > error


def test_prefill_refuses_what_it_cannot_read(tmp_path, tokens_file):
    result = run("llama_prefill")
    assert result.returncode == 2 and result.stderr.startswith("usage: ")
    other = tmp_path / "tokens"
    for text, expected in (("5", "two tokens at least"), ("5 4000000 6", "token 4000000"), ("5 -1", "token -1")):
        other.write_text(text)
        result = run("llama_prefill", LLAMA, other)
        assert result.returncode == 1 and expected in result.stderr, result.stderr
    for choice in ("1.5", "0", "x", "0.1:", "0.1:0", "0.1:193", "0.1:5x", "0.1;5"):
        result = run("llama_prefill", LLAMA, tokens_file, choice)
        assert result.returncode == 1 and f"found {choice}" in result.stderr, result.stderr
    result = run("llama_prefill", tmp_path, tokens_file)
    assert result.returncode == 1 and str(tmp_path) in result.stderr
    broken = tmp_path / "model"
    shutil.copytree(LLAMA, broken)
    (broken / "config.json").write_text("{}")
    result = run("llama_prefill", broken, tokens_file)
    assert result.returncode == 1 and "config.json" in result.stderr and result.stderr.count("\n") == 1


def test_deltas_come_closer_with_more_columns():
    def errors(top_keys):
        result = run("delta_layer", top_keys)
        assert result.returncode == 0, result.stderr
        lines = re.findall(r"^ +\d+  sparse +([\d.]+), +([\d.]+) %", result.stdout, re.M)
        assert len(lines) == 9  # steps 0, 1 and 6 are full
        return [float(error) for error, _ in lines], [float(left_out) for _, left_out in lines]

    few, left_out_of_few = errors(0.05)
    many, left_out_of_many = errors(0.4)
    assert 0 < max(many) < max(few) < 0.5
    assert min(left_out_of_few) > 85 and 50 < min(left_out_of_many) < 65


def test_deltas_refuse_a_share_that_is_none():
    for share in ("0", "1.5", "x"):
        assert run("delta_layer", share).returncode == 2
