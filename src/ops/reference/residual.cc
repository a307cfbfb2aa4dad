// The gated residual, element by element in double precision, and the norm of its sum.
#include "ops/residual.h"

#include "ops/norm.h"
#include "ops/reference/elements.h"

namespace tamias::reference {

void ResidualNorm(Context& context, const ResidualRows& rows, const ResidualNormOptions& options) {
  if (!rows.branch.empty()) {
    if (options.norms_branch) {
      reference::RmsNorm(context, rows.branch, {}, options.epsilon, rows.branch);
    }
    ForEachIndex(rows.x.shape(), [&](const Shape& i) {
      Set(rows.x, i, Get(rows.x, i) + Get(rows.gate, {i[0], i[2]}) * Get(rows.branch, i));
    });
  }
  if (rows.output.empty()) return;
  if (options.norm == NormKind::kLayer) {
    reference::LayerNorm(context, rows.x, {}, {}, options.epsilon, rows.output);
  } else {
    reference::RmsNorm(context, rows.x, {}, options.epsilon, rows.output);
  }
  const auto coefficient = [](const ConstTensorView& view, const Shape& i, double otherwise) {
    if (view.empty()) return otherwise;
    return view.rank() == 1 ? Get(view, {i[2]}) : Get(view, {i[0], i[2]});
  };
  ForEachIndex(rows.output.shape(), [&](const Shape& i) {
    const double gain = coefficient(rows.gain, i, 1) + (options.is_modulation ? 1 : 0);
    Set(rows.output, i, Get(rows.output, i) * gain + coefficient(rows.offset, i, 0));
  });
}

}  // namespace tamias::reference
