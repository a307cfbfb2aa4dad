"""tamias.ops on arrays of NumPy, beside plain formulas; test_torch.py has those of PyTorch."""

import doctest

import numpy as np
import pytest
import tamias
from tamias import ops

RNG = np.random.default_rng(1)


def normal(*shape):
    return RNG.standard_normal(shape, dtype=np.float32)


def attention(q, k, v, scale=None, allowed=None):
    """softmax(scale q k^T) v and its log-sum-exp, in double precision; allowed [..., Nq, Nk]: which keys count."""
    scores = np.einsum("bhid,bhjd->bhij", q, k, dtype=np.float64) * (scale or q.shape[-1] ** -0.5)
    if allowed is not None:
        scores = np.where(allowed, scores, -np.inf)
    lse = np.log(np.exp(scores).sum(-1))
    return np.einsum("bhij,bhjd->bhid", np.exp(scores - lse[..., None]), v.astype(np.float64)), lse


@pytest.fixture
def qkv():
    return normal(2, 3, 50, 32), normal(2, 3, 70, 32), normal(2, 3, 70, 32)


def test_documentation_examples_hold():
    tests = doctest.testmod(ops)
    assert tests.attempted >= 5
    assert tests.failed == 0


@pytest.mark.parametrize("causal", [False, True])
def test_dense_attention(qkv, causal):
    q, k, v = qkv
    allowed = np.tril(np.ones((50, 70), bool), 20) if causal else None
    expected, expected_lse = attention(q, k, v, allowed=allowed)
    output, lse = ops.dense_attention(q, k, v, causal=causal, with_log_sum_exp=True)
    assert isinstance(output, np.ndarray)
    np.testing.assert_allclose(output, expected, atol=2e-6)
    np.testing.assert_allclose(lse, expected_lse, atol=1e-5)


def test_strided_views_are_taken_as_they_are():
    packed = normal(1, 40, 3, 4, 32)  # [B, N, (q, k, v), H, D]
    q, k, v = (packed[:, :, i].transpose(0, 2, 1, 3) for i in range(3))
    output = np.empty((1, 40, 4, 32), np.float32).transpose(0, 2, 1, 3)
    returned = ops.dense_attention(q, k, v, out=output)
    assert returned is output
    np.testing.assert_allclose(output, attention(q, k, v)[0], atol=2e-6)


def test_column_sums(qkv):
    q, k, v = qkv
    expected, lse = attention(q, k, v)
    output, found_lse, sums = ops.dense_attention_column_sums(q, k, v, lse.astype(np.float32), group_size=16)
    scores = np.einsum("bhid,bhjd->bhij", q, k, dtype=np.float64) * 32**-0.5
    weights = np.exp(scores - lse[..., None])
    groups = [weights[:, :, i : i + 16].sum(2) for i in range(0, 50, 16)]
    np.testing.assert_allclose(sums, np.stack(groups, 2), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(output, expected, atol=2e-6)
    np.testing.assert_allclose(found_lse, lse, atol=1e-5)


def selection_of(allowed, capacity):
    """allowed [B, H, G, Nk] bool as indices and counts."""
    indices = np.zeros((*allowed.shape[:3], capacity), np.int32)
    counts = allowed.sum(-1).astype(np.int32)
    for place in np.ndindex(allowed.shape[:3]):
        indices[place][: counts[place]] = np.flatnonzero(allowed[place])
    return indices, counts


def test_column_sparse_attention(qkv):
    q, k, v = qkv
    allowed = RNG.random((2, 3, 4, 70)) < 0.3
    indices, counts = selection_of(allowed, 40)
    expected, lse = attention(q, k, v, allowed=np.repeat(allowed, 16, axis=2)[:, :, :50])
    output, found_lse = ops.column_sparse_attention(q, k, v, indices, counts, group_size=16, with_log_sum_exp=True)
    np.testing.assert_allclose(output, expected, atol=3e-6)
    np.testing.assert_allclose(found_lse, lse, atol=1e-5)
    base = normal(2, 3, 50, 32)
    added = ops.column_sparse_attention(q, k, v, indices, counts, group_size=16, base=base, sparse_scale=-1)
    np.testing.assert_allclose(added, base - expected, atol=3e-6)


def test_dense_rows_before_the_groups_attend_to_every_key(qkv):
    q, k, v = qkv
    allowed = RNG.random((2, 3, 3, 70)) < 0.3
    indices, counts = selection_of(allowed, 70)
    seen = np.concatenate([np.full((2, 3, 10, 70), True), np.repeat(allowed, 16, axis=2)[:, :, :40]], axis=2)
    expected, lse = attention(q, k, v, allowed=seen)
    base = normal(2, 3, 40, 32)
    arguments = dict(group_size=16, dense_rows=10, with_log_sum_exp=True)
    output, found_lse = ops.column_sparse_attention(q, k, v, indices, counts, base=base, **arguments)
    np.testing.assert_allclose(output[:, :, :10], expected[:, :, :10], atol=3e-6)
    np.testing.assert_allclose(output[:, :, 10:], base + expected[:, :, 10:], atol=3e-6)
    np.testing.assert_allclose(found_lse, lse[:, :, 10:], atol=1e-5)
    with pytest.raises(ValueError, match="dense_rows: expected 0 to 50, found 51"):
        ops.column_sparse_attention(q, k, v, indices, counts, dense_rows=51)


def test_two_parts_of_the_keys_merge_to_the_whole(qkv):
    q, k, v = qkv
    allowed = RNG.random((2, 3, 1, 70)) < 0.5
    first = selection_of(allowed, 70)
    second = selection_of(~allowed, 70)
    base, base_lse = ops.column_sparse_attention(q, k, v, *first, group_size=64, with_log_sum_exp=True)
    whole = ops.column_sparse_attention(q, k, v, *second, group_size=64, base=base, base_log_sum_exp=base_lse)
    np.testing.assert_allclose(whole, attention(q, k, v)[0], atol=3e-6)


def test_masks():
    scores = normal(5, 37)
    mask = ops.top_k_mask(scores, 9)
    bits = np.unpackbits(mask, axis=1, bitorder="little")[:, :37].astype(bool)
    for row, chosen in zip(scores, bits):
        assert set(np.flatnonzero(chosen)) == set(np.argsort(row)[-9:])
    indices, counts = ops.mask_to_indices(mask, 37, capacity=9)
    np.testing.assert_array_equal(counts, np.full(5, 9))
    np.testing.assert_array_equal(indices[2], np.flatnonzero(bits[2]))
    np.testing.assert_array_equal(ops.count_mask(mask), counts)
    about = ops.count_mask(ops.approximate_top_k_mask(normal(4, 5000), 500, seed=3))
    assert (abs(about - 500) < 250).all()
    random = ops.random_mask(np.zeros((3, 125), np.uint8), 1000, 0.25, seed=1)
    assert (abs(ops.count_mask(random) - 250) < 80).all()
    with pytest.raises(ValueError, match="capacity"):
        ops.mask_to_indices(mask, 37, capacity=8)


def gelu(x):
    return x / 2 * (1 + np.tanh(np.float32(np.sqrt(2 / np.pi)) * (x + np.float32(0.044715) * x**3)))


def test_sparse_mlp_with_all_neurons_is_the_dense_one():
    x, fc1, fc2 = normal(1, 20, 16), normal(24, 16) / 4, normal(16, 24) / 4
    before = normal(1, 20, 16)
    weights = tamias.MlpWeights(fc1, fc2)
    cached = ops.store_activations(gelu(before @ fc1.T), 8)
    assert cached.shape == (1, 3, 24, 8)
    output = gelu(before @ fc1.T) @ fc2.T
    indices = np.broadcast_to(np.arange(24, dtype=np.int32), (1, 3, 24)).copy()
    counts = np.full((1, 3), 24, np.int32)
    returned = ops.column_sparse_mlp(x, weights, indices, counts, cached, output, group_size=8)
    assert returned is output
    np.testing.assert_allclose(output, gelu(x @ fc1.T) @ fc2.T, atol=1e-5)
    rounded = ops.column_sparse_mlp(
        before, weights, indices, counts, cached, output.copy(), group_size=8, is_fp8=True
    )
    exact = gelu(before @ fc1.T) @ fc2.T
    error = np.linalg.norm(rounded - exact) / np.linalg.norm(exact)
    assert 1e-4 < error < 0.1  # three bits of mantissa in each factor


def test_layers():
    x, weight, bias = normal(3, 7, 16), normal(10, 16), normal(10)
    np.testing.assert_allclose(ops.linear(x, weight, bias), x @ weight.T + bias, atol=1e-5)
    np.testing.assert_allclose(
        ops.linear(x, weight, activation="gelu_tanh"), gelu((x @ weight.T).astype(np.float64)), atol=1e-5
    )
    gain = normal(16)
    centred = x - x.mean(-1, keepdims=True)
    normed = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6)
    np.testing.assert_allclose(ops.layer_norm(x, gain), normed * gain, atol=1e-5)
    rms = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6)
    np.testing.assert_allclose(ops.rms_norm(x, gain), rms * gain, atol=1e-5)
    np.testing.assert_allclose(ops.block_mean(x, 4)[:, 1], x[:, 4:].mean(1), atol=1e-6)
    heads = normal(1, 2, 5, 8)
    angles = np.repeat(RNG.random((5, 4), dtype=np.float32), 2, axis=1)


    def rotated(x):
        turned = np.stack([-x[..., 1::2], x[..., ::2]], -1).reshape(x.shape)
        return x * np.cos(angles) + turned * np.sin(angles)

    found = ops.rms_norm_rotary(heads, None, np.cos(angles), np.sin(angles))
    np.testing.assert_allclose(found, rotated(heads), atol=1e-5)
    gain = normal(8)
    normed = heads / np.sqrt((heads**2).mean(-1, keepdims=True) + 1e-6) * gain
    np.testing.assert_allclose(ops.rms_norm_rotary(heads, gain), normed, atol=1e-5)
    found = ops.rms_norm_rotary(heads, gain, np.cos(angles), np.sin(angles))
    np.testing.assert_allclose(found, rotated(normed), atol=1e-5)


def test_a_context_holds_threads_and_type(qkv):
    context = ops.Context(threads=1)
    assert context.threads == 1
    assert context.dtype == "f32"
    np.testing.assert_array_equal(ops.dense_attention(*qkv, context=context), ops.dense_attention(*qkv))
    with pytest.raises(ValueError, match="dtype"):
        ops.Context(dtype="f64")


@pytest.mark.parametrize(
    ("change", "kind", "text"),
    [
        (lambda q, k, v: (q.tolist(), k, v), TypeError, "query"),
        (lambda q, k, v: (q[0], k, v), ValueError, "query: expected [batch, heads, tokens, head_dim]"),
        (lambda q, k, v: (q, k[..., :16], v), ValueError, "key"),
        (lambda q, k, v: (q, k, v[:, :, :5]), ValueError, "value"),
        (lambda q, k, v: (q.astype(np.float64), k, v), NotImplementedError, "query"),
        (lambda q, k, v: (q, k.astype(np.float16), v), ValueError, "key"),
        (lambda q, k, v: (q[..., ::2], k[..., ::2], v[..., ::2]), ValueError, "query"),
    ],
)
def test_bad_arrays_are_named(qkv, change, kind, text):
    with pytest.raises(kind) as error:
        ops.dense_attention(*change(*qkv))
    assert text in str(error.value)
    assert "\n" not in str(error.value)


def test_odd_memory_is_refused(qkv):
    q, k, v = qkv
    with pytest.raises(ValueError, match="key: expected strides of 0 and more"):
        ops.dense_attention(q, k[:, :, ::-1], v)
    same = normal(2, 3, 50, 32)
    with pytest.raises(ValueError, match="out: expected memory apart from value"):
        ops.dense_attention(q, normal(2, 3, 50, 32), same, out=same)
    np.testing.assert_array_equal(ops.dense_attention(q, k, v, out=q.copy()), ops.dense_attention(q, k, v))
    for empty in (q[:, :, :0], q[:0], q[..., :0]):
        with pytest.raises(ValueError, match="query: expected no empty axis"):
            ops.dense_attention(empty, k, v)
    with pytest.raises(ValueError, match="scores: expected"):
        ops.top_k_mask(normal(5), 2)
    for threads in (-1, 10**6):
        with pytest.raises(ValueError, match="threads: expected 0 to 1024"):
            ops.Context(threads=threads)


def test_bad_selections_are_refused(qkv):
    q, k, v = qkv
    indices, counts = selection_of(np.ones((2, 3, 4, 70), bool), 70)
    for broken in (indices + 1, indices[..., ::-1].copy(), -indices):
        with pytest.raises(ValueError, match="ind"):
            ops.column_sparse_attention(q, k, v, broken, counts, group_size=16)
    with pytest.raises(ValueError, match="count"):
        ops.column_sparse_attention(q, k, v, indices, counts + 1, group_size=16)
    with pytest.raises(ValueError):
        ops.column_sparse_attention(q, k, v, indices, counts, group_size=0)


def test_an_output_that_cannot_be_written_is_refused(qkv):
    frozen = np.zeros((2, 3, 50, 32), np.float32)
    frozen.flags.writeable = False
    with pytest.raises(TypeError):
        ops.dense_attention(*qkv, out=frozen)
    with pytest.raises(ValueError, match="out"):
        ops.dense_attention(*qkv, out=np.zeros((2, 3, 50, 31), np.float32))
