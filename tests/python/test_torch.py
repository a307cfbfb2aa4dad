"""tamias.ops and sessions on tensors of PyTorch: its own attention as the measure, no copies, no gradients."""

import numpy as np
import pytest
import tamias
import torch
import torch.nn.functional as F
from tamias import ops


@pytest.fixture
def qkv():
    generator = torch.Generator().manual_seed(1)
    return tuple(torch.randn(1, 2, 70, 64, generator=generator) for _ in range(3))


def test_attention_is_that_of_pytorch(qkv):
    output = ops.dense_attention(*qkv)
    assert isinstance(output, torch.Tensor)
    torch.testing.assert_close(output, F.scaled_dot_product_attention(*qkv), atol=2e-6, rtol=1e-5)
    causal = ops.dense_attention(*qkv, causal=True, scale=0.3)
    expected = F.scaled_dot_product_attention(*qkv, is_causal=True, scale=0.3)
    torch.testing.assert_close(causal, expected, atol=2e-6, rtol=1e-5)


def test_bf16_goes_in_and_comes_out(qkv):
    half = [tensor.bfloat16() for tensor in qkv]
    output = ops.dense_attention(*half)
    assert output.dtype == torch.bfloat16
    expected = F.scaled_dot_product_attention(*[tensor.float() for tensor in half])
    error = (output.float() - expected).norm() / expected.norm()
    assert error < 2e-2
    with pytest.raises(tamias.InvalidArgumentError, match="query"):
        ops.dense_attention(*half, context=ops.Context(dtype="f32"))


def test_half_precision_is_refused_by_name(qkv):
    with pytest.raises(tamias.InvalidArgumentError, match="f16"):
        ops.dense_attention(*[tensor.half() for tensor in qkv])


def test_results_are_written_where_asked(qkv):
    packed = torch.zeros(1, 70, 2, 64)
    view = packed.permute(0, 2, 1, 3)
    assert ops.dense_attention(*qkv, out=view) is view
    torch.testing.assert_close(packed.permute(0, 2, 1, 3), F.scaled_dot_product_attention(*qkv), atol=2e-6, rtol=1e-5)


def test_gradients_are_refused_not_lost(qkv):
    query, key, value = qkv
    query.requires_grad_()
    with pytest.raises(tamias.InvalidArgumentError, match="no_grad"):
        ops.dense_attention(query, key, value)
    with torch.no_grad():
        assert not ops.dense_attention(query, key, value).requires_grad
    with torch.inference_mode():
        ops.dense_attention(query, key, value)


def test_sessions_and_weights_take_modules(qkv):
    fc1, fc2 = torch.nn.Linear(32, 64), torch.nn.Linear(64, 32)
    config = tamias.SparsityConfig()
    for assignment in ("mlp.mbm=32", "mlp.counts_multiple_of=1", "mlp.top_keys=1", "mlp.first_n_dense_layers=0"):
        config.set(assignment)
    session = tamias.SparseSession(
        config, grid=(1, 7, 10), num_layers=1, num_heads=2, head_dim=64, model_dim=32, mlp_dim=64
    )
    x = torch.randn(1, 70, 32)
    with torch.no_grad():
        weights = tamias.MlpWeights(fc1.weight, fc2.weight, fc1.bias, fc2.bias)
        for step in range(4):
            session.begin_step(step)
            moved = x * (1 + 0.1 * step)
            expected = fc2(F.gelu(fc1(moved), approximate="tanh"))
            torch.testing.assert_close(session.mlp(0, weights, moved), expected, atol=1e-5, rtol=1e-4)
    assert session.report()["steps"][3]["kind"] == "sparse"


def test_latents_go_to_pytorch_without_a_copy(pipeline):
    result = pipeline.generate("a red circle", width=64, height=64, steps=1, decode=False)
    latents = torch.from_dlpack(result.latents[0])
    latents[0, 0] = 5
    assert result.latents[0][0, 0] == 5
    again = pipeline.generate("a red circle", width=64, height=64, steps=1, decode=False, initial_latents=latents)
    assert np.isfinite(again.latents[0]).all()
