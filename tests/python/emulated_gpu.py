"""Run by test_cuda_arrays.py over the emulated GPU: operations, sessions and the adapter for diffusers on arrays
that say that they lie there, beside the same on the CPU."""

import diffusers
import numpy as np
import pytest
import tamias
import tiny_transformers as tiny
import torch
from gpu_array import GpuArray, numpy_of
from tamias import arrays, ops

HALF = (torch.bfloat16, torch.float16)
GENERATOR = torch.Generator().manual_seed(0)


def normal(*shape, dtype=torch.float32):
    return torch.randn(shape, generator=GENERATOR).to(dtype)


def gpu(tensor):
    return GpuArray(tensor.clone())


def error(found, expected):
    found = numpy_of(found) if isinstance(found, GpuArray) else found.float().numpy()
    expected = expected.float().numpy() if isinstance(expected, torch.Tensor) else expected
    return np.linalg.norm(found - expected) / np.linalg.norm(expected)


@pytest.fixture(params=HALF, ids=str)
def qkv(request):
    return [normal(1, 2, 150, 64, dtype=request.param) for _ in range(3)]


def floats(tensors):
    return [tensor.float() for tensor in tensors]


def test_dense_attention(qkv):
    output, lse = ops.dense_attention(*map(gpu, qkv), with_log_sum_exp=True)
    expected, expected_lse = ops.dense_attention(*floats(qkv), with_log_sum_exp=True)
    assert isinstance(output, GpuArray) and output.dtype == str(qkv[0].dtype)
    assert lse.dtype == "torch.float32"
    assert error(output, expected) < 1e-2
    assert error(lse, expected_lse) < 1e-3


def test_columns_are_chosen_and_attended_to(qkv):
    on_gpu = list(map(gpu, qkv))
    _, lse = ops.dense_attention(*on_gpu, with_log_sum_exp=True)
    output, _, sums = ops.dense_attention_column_sums(*on_gpu, lse, group_size=64)
    expected, expected_lse, expected_sums = ops.dense_attention_column_sums(
        *floats(qkv), ops.dense_attention(*floats(qkv), with_log_sum_exp=True)[1], group_size=64
    )
    assert error(output, expected) < 1e-2 and error(sums, expected_sums) < 1e-2
    mask = ops.top_k_mask(GpuArray(sums.host.reshape(-1, 150)), 40)
    counts = ops.count_mask(mask)
    assert counts.host.tolist() == [40] * 6
    indices, counts = ops.mask_to_indices(mask, 150, capacity=40)
    assert torch.equal(indices.host, indices.host.sort().values)
    found = ops.column_sparse_attention(
        *on_gpu,
        GpuArray(indices.host.reshape(1, 2, 3, 40)),
        GpuArray(counts.host.reshape(1, 2, 3)),
        group_size=64,
    )
    expected = ops.column_sparse_attention(
        *floats(qkv), indices.host.reshape(1, 2, 3, 40), counts.host.reshape(1, 2, 3), group_size=64
    )
    assert error(found, expected) < 1e-2


def test_the_layers_beside_attention():
    x, weight = normal(1, 40, 64, dtype=torch.bfloat16), normal(96, 64, dtype=torch.bfloat16)
    assert error(ops.linear(gpu(x), gpu(weight)), x.float() @ weight.float().T) < 1e-2
    gain = normal(64)
    assert error(ops.rms_norm(gpu(x), gpu(gain)), ops.rms_norm(x.float(), gain)) < 1e-2
    assert error(ops.block_mean(gpu(x), 8), ops.block_mean(x.float(), 8)) < 1e-2


def test_results_go_where_they_are_asked_for(qkv):
    out = gpu(torch.zeros_like(qkv[0]))
    assert ops.dense_attention(*map(gpu, qkv), out=out) is out
    assert error(out, ops.dense_attention(*floats(qkv))) < 1e-2


def test_arrays_are_asked_to_be_ready_in_the_queue(qkv):
    GpuArray.streams.clear()
    ops.dense_attention(*map(gpu, qkv))
    assert set(GpuArray.streams) == {1}


def test_a_mix_of_places_is_refused_by_name(qkv):
    query, key, value = map(gpu, qkv)
    with pytest.raises(
        tamias.InvalidArgumentError, match="key: expected memory of cuda:0, found memory of cpu"
    ):
        ops.dense_attention(query, qkv[1], value)
    with pytest.raises(
        tamias.InvalidArgumentError, match="value: expected memory of cpu, found memory of cuda:0"
    ):
        ops.dense_attention(*floats(qkv)[:2], gpu(qkv[2].float()))
    with pytest.raises(
        tamias.InvalidArgumentError, match="key: expected memory of cuda:0, found memory of cuda:1"
    ):
        ops.dense_attention(query, GpuArray(qkv[1], 1), value)
    with pytest.raises(
        tamias.InvalidArgumentError, match="query: expected memory of cpu, found memory of cuda:0"
    ):
        ops.dense_attention(*map(gpu, floats(qkv)), context=ops.Context())


def test_types(qkv):
    with pytest.raises(tamias.InvalidArgumentError, match="query: expected"):
        ops.dense_attention(*(gpu(x.double().to(torch.int32)) for x in qkv))
    with pytest.raises(tamias.UnsupportedError, match="query: expected float32"):
        ops.dense_attention(*(gpu(x.double()) for x in qkv))
    with pytest.raises(tamias.UnsupportedError, match="cuda:0 computes in 16 bits, found f32"):
        ops.Context(device="cuda")
    context = ops.Context(device="cuda", dtype="f16")
    assert (context.device, context.dtype) == ("cuda:0", "f16")
    context.synchronize()


def small_config(*settings):
    config = tamias.SparsityConfig()
    for setting in (
        "attn.mbm=64", "attn.counts_multiple_of=1", "attn.first_n_dense_layers=0", "attn.top_keys=0.3",
        "attn.full_step_every=5", "mlp.mbm=64", "mlp.counts_multiple_of=1", "mlp.first_n_dense_layers=0", *settings,
    ):  # fmt: skip
        config.set(setting)
    return config


def test_a_session_gives_what_it_gives_on_the_cpu():
    config = small_config("mlp.top_keys=0.5", "step_caching.is_enabled=true", "step_caching.reuse=prediction",
                          "step_caching.skip_step_schedule=[4]")  # fmt: skip
    shape = dict(
        grid=(1, 12, 12),
        num_layers=1,
        num_heads=2,
        head_dim=64,
        model_dim=64,
        mlp_dim=128,
        prediction_channels=8,
    )
    on_gpu = tamias.SparseSession(config, **shape, dtype="bf16", device="cuda")
    on_cpu = tamias.SparseSession(config, **shape)
    fc1, fc2 = normal(128, 64, dtype=torch.bfloat16) / 8, normal(64, 128, dtype=torch.bfloat16) / 11
    gpu_weights, weights = tamias.MlpWeights(gpu(fc1), gpu(fc2)), tamias.MlpWeights(fc1.float(), fc2.float())
    base, x, prediction = normal(3, 1, 2, 144, 64), normal(1, 144, 64), normal(1, 144, 8)
    for step in range(6):
        kind = on_gpu.begin_step(step)
        assert on_cpu.begin_step(step) == kind
        if kind == "skip":
            reused = gpu(torch.zeros(1, 144, 8))
            on_gpu.cached_prediction(reused)
            assert torch.equal(reused.host, prediction)
            continue
        # Small moves: what is chosen is the same on both.
        qkv = [(tensor * (1 + 0.02 * step)).bfloat16() for tensor in base]
        found = on_gpu.attention(0, *map(gpu, qkv))
        assert error(found, on_cpu.attention(0, *floats(qkv))) < 3e-2
        moved = (x * (1 + 0.02 * step)).bfloat16()
        assert error(on_gpu.mlp(0, gpu_weights, gpu(moved)), on_cpu.mlp(0, weights, moved.float())) < 3e-2
        on_gpu.store_prediction(gpu(prediction))
        on_cpu.store_prediction(prediction)
    found, expected = on_gpu.report(), on_cpu.report()
    assert found["attention_sparsity"] == pytest.approx(expected["attention_sparsity"], abs=0.02)
    assert (
        found["mlp_sparsity"] == pytest.approx(expected["mlp_sparsity"], abs=0.02)
        and found["mlp_sparsity"] > 0
    )


def test_single_layers():
    attention = tamias.DeltaAttention(
        small_config(), grid=(1, 12, 12), num_heads=2, head_dim=64, dtype="bf16", device="cuda"
    )
    qkv = [normal(1, 2, 144, 64, dtype=torch.bfloat16) for _ in range(3)]
    for is_full in (True, True, False):
        found = attention(*map(gpu, qkv), is_full=is_full)
    assert attention.sparsity > 0.5
    assert error(found, ops.dense_attention(*floats(qkv))) < 3e-2
    mlp = tamias.DeltaMlp(small_config(), tokens=144, model_dim=64, mlp_dim=128, dtype="f16", device="cuda")
    weights = tamias.MlpWeights(gpu(normal(128, 64).half() / 8), gpu(normal(64, 128).half() / 11))
    x = normal(1, 144, 64).half()
    first = mlp(gpu(x), weights, step=0, is_full=True)
    assert error(mlp(gpu(x), weights, step=1, is_full=False), first.host) < 1e-2


# PyTorch has no CUDA here: its tensors are said to lie there, where the package asks.
@pytest.fixture
def tensors_on_gpu(monkeypatch):
    class OnGpu:
        def __init__(self, tensor, stream):
            self._array = GpuArray(tensor)

        def __dlpack__(self, **_):
            return self._array.__dlpack__()

    monkeypatch.setattr(arrays, "gpu_of", lambda array: 0)
    monkeypatch.setattr(arrays, "stream_of", lambda array: 1)
    for module in (ops, __import__("tamias.sparsity", fromlist=["_"])):
        monkeypatch.setattr(module, "stream_of", lambda array: 1)
    monkeypatch.setattr(arrays, "_OnStream", OnGpu)
    from tamias.denoising import model_call

    session = model_call.SparseSession
    monkeypatch.setattr(
        model_call,
        "SparseSession",
        lambda config, **options: session(config, **options | {"device": "cuda:0"}),
    )


# Heads as wide as the kernels for GPUs take them.
WIDE_FLUX = tiny.Tiny(
    lambda: diffusers.FluxTransformer2DModel(
        in_channels=8, num_layers=1, num_single_layers=1, attention_head_dim=64, num_attention_heads=2,
        joint_attention_dim=20, pooled_projection_dim=10, axes_dims_rope=(16, 24, 24),
    ),
    tiny.flux_inputs,
)  # fmt: skip
WIDE_WAN = tiny.Tiny(lambda: tiny.make_wan(attention_head_dim=64, num_attention_heads=2), tiny.wan_inputs)


@pytest.mark.parametrize("family", [WIDE_FLUX, WIDE_WAN], ids=["flux", "wan"])
@pytest.mark.parametrize("skipped", ["[]", "[3]"])
def test_the_adapter_for_diffusers(family, skipped, tensors_on_gpu):
    """Where columns and neurons are all kept, and the skipped step's latents hardly move, the plain result."""
    model = family.model().bfloat16()
    torch.manual_seed(2)
    call = {
        key: value.bfloat16() if isinstance(value, torch.Tensor) and value.is_floating_point() else value
        for key, value in family.inputs(2).items()
    }
    expected = tiny.denoise(family, model, [call])
    settings = [
        "attn.mbm=64", "attn.counts_multiple_of=1", "attn.first_n_dense_layers=0", "attn.top_keys=1",
        "attn.full_step_every=10", "attn.full_step_schedule=null", "mlp.full_step_every=10",
        "mlp.is_enabled=true", "mlp.mbm=64", "mlp.counts_multiple_of=1", "mlp.top_keys=1",
        "mlp.first_n_dense_layers=0", f"step_caching.is_enabled={'false' if skipped == '[]' else 'true'}",
        f"step_caching.skip_step_schedule={skipped}", "step_caching.threshold=0", "step_caching.reuse=hidden",
    ]  # fmt: skip
    with tamias.accelerate(model, "demo", overrides=settings) as acceleration:
        found = tiny.denoise(family, model, [call])
        kinds = [step["kind"] for step in acceleration.report()["steps"]]
    assert kinds == ["full", "full", "sparse", "skip" if skipped == "[3]" else "sparse", "sparse", "sparse"]
    assert found.dtype == torch.bfloat16
    assert tiny.relative_error(found.float(), expected.float()) < (5e-2 if skipped == "[]" else 0.5)
