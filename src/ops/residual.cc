// Entry of the gated residual and its norm: checks, then the device's implementation.
#include "ops/residual.h"

#include "base/check.h"
#include "ops/check_tensor.h"
#include "ops/dispatch.h"

namespace tamias {
namespace {

constexpr std::string_view kName = "residual norm";

// [B, d] of activations, [d] of a weight, or empty.
void CheckCoefficients(const Context& context, std::string_view argument,
                       const ConstTensorView& view, const TensorView& x) {
  if (view.rank() == 2) {
    CheckActivationRows(context, kName, argument, view, {x.dim(0), x.dim(2)});
  } else {
    CheckOptionalWeight(context, kName, argument, view, x.dim(2));
  }
}

void Check(const Context& context, const ResidualRows& rows, const ResidualNormOptions& options) {
  const TensorView& x = rows.x;
  CheckActivationRows(context, kName, "x", x, {-1, -1, -1});
  if (!rows.gate.empty() || !rows.branch.empty()) {
    CheckActivationRows(context, kName, "gate", rows.gate, {x.dim(0), x.dim(2)});
    CheckActivationRows(context, kName, "branch", rows.branch, x.shape());
  }
  if (!rows.output.empty()) CheckActivationRows(context, kName, "output", rows.output, x.shape());
  CheckCoefficients(context, "gain", rows.gain, x);
  CheckCoefficients(context, "offset", rows.offset, x);
  if (options.norm == NormKind::kRms && !rows.offset.empty()) {
    Fail(ErrorCode::kInvalidArgument, "{}: offset: expected none of an RMS norm", kName);
  }
  if (options.is_modulation && rows.gain.empty() && !rows.output.empty()) {
    Fail(ErrorCode::kInvalidArgument, "{}: gain: expected the scale of a modulation, found none",
         kName);
  }
}

}  // namespace

ResidualRows RowsToNorm(ConstTensorView x, ConstTensorView gain, ConstTensorView offset,
                        TensorView output) {
  const TensorView read(const_cast<void*>(x.raw()), x.dtype(), x.shape(), x.strides(), x.device());
  return {.x = read, .gate = {}, .branch = {}, .gain = gain, .offset = offset, .output = output};
}

void ResidualNorm(Context& context, std::span<const ResidualRows> streams,
                  const ResidualNormOptions& options) {
  for (const ResidualRows& rows : streams) Check(context, rows, options);
  DispatchWithCpuScratch(
      context,
      [&] {
        for (const ResidualRows& rows : streams) cpu::ResidualNorm(context, rows, options);
      },
      [&](cuda::Stream& stream) { cuda::ResidualNorm(stream, streams, options); });
}

}  // namespace tamias
