// The gated residual connection of adaptive layer norm blocks (DiT, arXiv 2212.09748), alone and
// with the norm that reads the sum:
//   x[b, n, :] += gate[b, :] * branch[b, n, :]
//   output[b, n, :] = norm(x[b, n, :]) * gain[b, :] + offset[b, :]
// Symbols: B batch, N tokens, d width. On a GPU: x, gate, branch, gain, offset and output each f32,
// f16 or bf16; d a multiple of 8 up to 32,768, rows begin at multiples of 16 bytes. The work is
// enqueued.
#pragma once

#include <cstdint>
#include <span>

#include "tamias/context.h"
#include "tamias/tensor.h"

namespace tamias {

enum class NormKind : uint8_t { kLayer, kRms };

struct ResidualNormOptions {
  NormKind norm = NormKind::kLayer;
  float epsilon = 1e-6f;
  bool is_modulation = false;  // a modulation's scale is given as gain: the factor is 1 + gain
  bool norms_branch = false;   // added is gate * RmsNorm(branch), which overwrites the branch
};

// Rows of one stream. Tensors [B, N, d] f32, any strides with last stride 1.
struct ResidualRows {
  TensorView x;
  ConstTensorView gate;    // [B, d] f32, last stride 1; empty, as the branch: nothing is added
  TensorView branch;       // [B, N, d]
  ConstTensorView gain;    // [B, d] f32, or [d] f32, f16 or bf16, last stride 1; empty: 1
  ConstTensorView offset;  // likewise; empty: 0
  TensorView output;       // [B, N, d], may be the branch; empty: x is not normed
};

// Rows to which nothing is added: x is only read.
ResidualRows RowsToNorm(ConstTensorView x, ConstTensorView gain, ConstTensorView offset,
                        TensorView output);

// Of each stream: one launch on a GPU for up to four, which reads every row once. On the CPU the
// same to the bit as RmsNorm of the branch, the sum without a norm, then LayerNorm,
// LayerNormModulate or RmsNorm.
void ResidualNorm(Context& context, std::span<const ResidualRows> streams,
                  const ResidualNormOptions& options);

namespace reference {
void ResidualNorm(Context& context, const ResidualRows& rows, const ResidualNormOptions& options);
}  // namespace reference
namespace cpu {
void ResidualNorm(Context& context, const ResidualRows& rows, const ResidualNormOptions& options);
}  // namespace cpu

namespace cuda {
class Stream;
void ResidualNorm(Stream& stream, std::span<const ResidualRows> streams,
                  const ResidualNormOptions& options);
}  // namespace cuda

}  // namespace tamias
