"""Deltas and sessions from Python: a loop of one's own."""

import numpy as np
import pytest
import tamias
from tamias import ops

RNG = np.random.default_rng(2)
GRID = (1, 16, 16)
TEXT = 8
HEADS, WIDTH = 2, 32
TOKENS = TEXT + 256


def normal(*shape, deviation=1.0):
    return (deviation * RNG.standard_normal(shape)).astype(np.float32)


def path(*shape, deviation=1.0):
    """Arrays that move a little from step to step."""
    begin, end = normal(*shape, deviation=deviation), normal(*shape, deviation=deviation)
    return lambda step: (np.cos(0.02 * step) * begin + np.sin(0.02 * step) * end).astype(np.float32)


def error(found, expected):
    return np.linalg.norm(found - expected) / np.linalg.norm(expected)


def config(**overrides):
    made = tamias.SparsityConfig()
    for assignment in ("attn.full_step_every=6", "mlp.full_step_every=6", "mlp.counts_multiple_of=8",
                       "attn.counts_multiple_of=8", "attn.mbm=32", "mlp.mbm=32"):  # fmt: skip
        made.set(assignment)
    for key, value in overrides.items():
        made.set(f"{key.replace('__', '.')}={value}")
    return made


def test_profiles_are_found():
    assert "demo" in tamias.profiles()
    made = tamias.SparsityConfig.load("demo")
    assert made.attn.top_keys > 0
    assert tamias.SparsityConfig.parse(made.yaml).yaml == made.yaml
    with pytest.raises(FileNotFoundError, match="did you mean 'demo'"):
        tamias.SparsityConfig.load("dmeo")
    with pytest.raises(ValueError, match="did you mean 'attn.top_keys'"):
        made.set("attn.topkeys=1")
    assert not tamias.SparsityConfig.dense().is_anything_enabled
    assert config().kind_of_step(0) == "full"
    assert config().kind_of_step(3) == "sparse"
    assert config(world_size=4).warnings()


def test_attention_as_a_delta():
    attention = tamias.DeltaAttention(
        config(attn__top_keys=0.3), grid=GRID, num_heads=HEADS, head_dim=WIDTH, text_tokens=TEXT
    )
    assert sorted(attention.token_order) == list(range(256))
    q, k, v = (path(1, HEADS, TOKENS, WIDTH, deviation=2 if i < 2 else 1) for i in range(3))
    for step in range(8):
        dense = ops.dense_attention(q(step), k(step), v(step))
        found = attention(q(step), k(step), v(step), is_full=np.isin(step, (0, 1, 6)))
        if step in (0, 1, 6):
            assert error(found, dense) < 1e-5
            assert attention.sparsity == 0
        else:
            assert 1e-5 < error(found, dense) < 0.2
            assert 0.3 < attention.sparsity < 0.9


def test_mlp_as_a_delta():
    mlp = tamias.DeltaMlp(config(mlp__top_keys=0.25), tokens=100, model_dim=32, mlp_dim=64)
    fc1, fc2 = normal(64, 32, deviation=0.2), normal(32, 64, deviation=0.2)
    weights = tamias.MlpWeights(fc1, fc2, activation="silu")
    x = path(1, 100, 32)
    for step in range(5):
        hidden = x(step) @ fc1.T
        dense = (hidden / (1 + np.exp(-hidden))) @ fc2.T
        found = mlp(x(step), weights, step=step, is_full=step == 0)
        assert error(found, dense) < (1e-5 if step == 0 else 0.1)
    assert 0.5 < mlp.sparsity < 0.9


def run_session(session, steps, layers=3):
    """The outputs of a session over a few steps of inputs that are the same each time."""
    rng = np.random.default_rng(3)
    begin = [rng.standard_normal((1, HEADS, TOKENS, WIDTH), dtype=np.float32) for _ in range(3)]
    fc1, fc2 = (rng.standard_normal(shape, dtype=np.float32) / 8 for shape in ((128, 64), (64, 128)))
    weights = tamias.MlpWeights(fc1, fc2)
    hidden = rng.standard_normal((1, 256, 64), dtype=np.float32)
    outputs, kinds = [], []
    for step in range(steps):
        kinds.append(session.begin_step(step, time=1 - step / steps))
        if session.is_skipped:
            out = np.zeros((1, 256, 4), np.float32)
            session.cached_prediction(out)
            outputs.append(out)
            continue
        moved = [array * (1 + 0.01 * step) for array in begin]
        x = hidden * (1 + 0.01 * step)
        for layer in range(layers):
            attended = session.attention(layer, *moved)
            x = x + session.mlp(layer, weights, x)
        prediction = np.ascontiguousarray(x[..., :4] + attended.mean())
        session.store_prediction(prediction)
        outputs.append(prediction)
    session.end_step()
    return outputs, kinds


SESSION = {
    "grid": GRID,
    "num_layers": 3,
    "num_heads": HEADS,
    "head_dim": WIDTH,
    "model_dim": 64,
    "text_tokens": TEXT,
    "mlp_dim": 128,
    "prediction_channels": 4,
}


def test_a_session_runs_full_sparse_and_skipped_steps():
    made = config(
        step_caching__is_enabled="true", step_caching__skip_step_schedule="{4, 5}", step_caching__reuse="prediction"
    )
    session = tamias.SparseSession(made, **SESSION)
    outputs, kinds = run_session(session, 8)
    assert kinds == ["full", "full", "sparse", "sparse", "skip", "skip", "full", "sparse"]
    np.testing.assert_array_equal(outputs[4], outputs[3])
    report = session.report()
    assert [step["kind"] for step in report["steps"]] == kinds
    assert 0 < report["attention_sparsity"] < 1
    assert 0 < report["mlp_sparsity"] < 1
    assert session.state_bytes == sum(session.plan.values()) == report["state_bytes"]
    again, _ = run_session(tamias.SparseSession(made, **SESSION), 8)
    for one, two in zip(outputs, again):
        np.testing.assert_array_equal(one, two)


def test_a_dense_session_is_plain_attention():
    session = tamias.SparseSession(tamias.SparsityConfig.dense(), **SESSION)
    session.begin_step(0)
    q, k, v = (normal(1, HEADS, TOKENS, WIDTH) for _ in range(3))
    np.testing.assert_array_equal(session.attention(2, q, k, v), ops.dense_attention(q, k, v))
    assert not session.has_sparse_mlp(2)


def test_bad_calls_are_named():
    session = tamias.SparseSession(config(), **SESSION)
    q = normal(1, HEADS, TOKENS, WIDTH)
    with pytest.raises(ValueError, match="step"):
        session.begin_step(3)
    session.begin_step(0)
    with pytest.raises(ValueError):
        session.attention(3, q, q, q)
    with pytest.raises(ValueError):
        session.attention(-1, q, q, q)
    with pytest.raises(ValueError, match="query"):
        session.attention(2, q[:, :1], q, q)
    with pytest.raises(ValueError, match="query"):
        session.attention(2, q[:, :, 1:], q[:, :, 1:], q[:, :, 1:])
    with pytest.raises(ValueError, match="out"):
        session.attention(2, q, q, q, out=np.zeros((1, HEADS, 5, WIDTH), np.float32))
    weights = tamias.MlpWeights(normal(128, 64), normal(64, 128))
    with pytest.raises(ValueError, match="input"):
        session.mlp(2, weights, normal(1, 255, 64))
    with pytest.raises(ValueError):
        session.mlp(2, tamias.MlpWeights(normal(64, 64), normal(64, 64)), normal(1, 256, 64))
    with pytest.raises(ValueError, match="activation"):
        tamias.MlpWeights(normal(128, 64), normal(64, 128), activation="gelo")
    with pytest.raises(ValueError, match="num_heads"):
        tamias.SparseSession(config(), **SESSION | {"num_heads": 0})
    with pytest.raises(MemoryError):
        tamias.SparseSession(config(), **SESSION | {"grid": (1000, 1000, 1000)})
    with pytest.raises(ValueError, match="num_layers: expected at most 4096"):
        tamias.SparseSession(config(), **SESSION | {"num_layers": 10**6})
    with pytest.raises(ValueError, match="grid"):
        tamias.SparseSession(config(), **SESSION | {"grid": (1, 8)})
    with pytest.raises(ValueError, match="text_tokens"):
        tamias.SparseSession(config(), **SESSION | {"text_tokens": -1})
    with pytest.raises(TypeError, match="MlpWeights"):
        session.mlp(2, None, normal(1, 256, 64))
    with pytest.raises(ValueError, match="heads"):
        tamias.DeltaAttention(config(), grid=GRID, num_heads=0, head_dim=4)
