// Random attention problems on a device, in bf16 or f16, beside their fp32 values for the
// reference.
#pragma once

#include <cmath>
#include <ostream>

#include "ops/attention.h"
#include "tests/support/compare_tensors.h"
#include "tests/support/device_test.h"

namespace tamias {

struct AttentionProblem {
  int64_t batch = 1, heads = 1, queries = 1, keys = 1, head_dim = 64;
  DType dtype = DType::kBF16;
  bool causal = false;
};

inline std::ostream& operator<<(std::ostream& out, const AttentionProblem& p) {
  return out << Name(p.dtype) << " B " << p.batch << " H " << p.heads << " Nq " << p.queries
             << " Nk " << p.keys << " D " << p.head_dim << (p.causal ? " causal" : "");
}

// Sizes that are multiples of nothing; an emulated block of 12 warps costs about 20 ms a step.
inline AttentionProblem RandomAttentionProblem(Random& random) {
  return {.batch = random.Integer(1, 2),
          .heads = random.Integer(1, 2),
          .queries = random.Integer(1, 210),
          .keys = random.Integer(1, 180),
          .head_dim = random.Coin() ? 64 : 128,
          .dtype = random.Coin() ? DType::kBF16 : DType::kF16};
}

// As many keys as queries, or more.
inline AttentionProblem RandomCausalProblem(Random& random) {
  AttentionProblem problem = RandomAttentionProblem(random);
  problem.keys = problem.queries + (random.Coin() ? 0 : random.Integer(1, 80));
  problem.causal = true;
  return problem;
}

// A tensor of [B, N, H, D] storage seen as [B, H, N, D], as models hand it over, or contiguous.
struct DeviceRows {
  DeviceRows(cuda::Stream& stream, Random& random, const Shape& shape, DType dtype, float scale,
             bool token_major)
      : token_major_(token_major) {
    const Shape stored =
        token_major ? Shape{shape[0], shape[2], shape[1], shape[3]} : Shape(shape.dims());
    const Tensor rounded = Rounded(random.Normal(stored, scale), dtype);
    host_ = ToFloat32(rounded);
    device_ = ToDevice(stream, rounded);
  }
  TensorView device() { return Seen(device_.view()); }
  TensorView host() { return Seen(host_.view()); }
  // What the device holds now, as fp32 [B, H, N, D].
  Tensor Read(cuda::Stream& stream) const {
    Tensor now = ToFloat32(ToHost(stream, device_.view()));
    return Tensor::CopyOf(Seen(now.view()));
  }

 private:
  TensorView Seen(TensorView stored) const {
    return token_major_ ? stored.Permute({0, 2, 1, 3}) : stored;
  }
  bool token_major_;
  Tensor host_, device_;
};

struct AttentionCase {
  AttentionCase(cuda::Stream& stream, Random& random, const AttentionProblem& p,
                float deviation = 1, bool token_major = true)
      : problem(p),
        query(stream, random, {p.batch, p.heads, p.queries, p.head_dim}, p.dtype, deviation,
              token_major),
        key(stream, random, {p.batch, p.heads, p.keys, p.head_dim}, p.dtype, deviation,
            token_major),
        value(stream, random, {p.batch, p.heads, p.keys, p.head_dim}, p.dtype, 1, token_major),
        output(stream, random, {p.batch, p.heads, p.queries, p.head_dim}, p.dtype, 1, token_major) {
  }

  AttentionInputs device() {
    return {.query = query.device(),
            .key = key.device(),
            .value = value.device(),
            .scale = Scale(),
            .causal = problem.causal};
  }
  AttentionInputs host() {
    return {.query = query.host(),
            .key = key.host(),
            .value = value.host(),
            .scale = Scale(),
            .causal = problem.causal};
  }
  float Scale() const { return 1 / std::sqrt(static_cast<float>(problem.head_dim)); }

  AttentionProblem problem;
  DeviceRows query, key, value, output;
};

// A weight is rounded to the element type before it multiplies a value (relative error u at most),
// the output once more: |error| <= u (sum_j w_j |v_j| + |output|), here with the largest value, and
// 2 % for what happens in fp32. u is 2^-8 for bf16, 2^-11 for f16.
inline void ExpectOutput(const Tensor& found, const Tensor& expected, float largest_value,
                         DType dtype) {
  ExpectWithin(found, expected, [&](float e) {
    return 1.02f * RoundingOf(dtype) * (largest_value + std::abs(e)) + 1e-6f;
  });
}

}  // namespace tamias
