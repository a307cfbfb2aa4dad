#include "sparsity/step_cache.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/parallel.h"
#include "ops/check_tensor.h"
#include "ops/elementwise.h"
#include "sparsity/copy_rows.h"

namespace tamias {
namespace {

// sum |a - b| / sum |b| over two tensors [B, N, d]; b becomes a. Sums are taken in blocks of rows
// of fixed size and added in order, so that the decision does not depend on the number of threads.
double ReplaceAndMeasureChange(Context& context, ConstTensorView a, TensorView b) {
  constexpr int64_t kBlock = 64;  // rows
  const int64_t rows = a.dim(0) * a.dim(1);
  const int64_t blocks = (rows + kBlock - 1) / kBlock;
  std::vector<double> change(static_cast<size_t>(blocks));
  std::vector<double> size(static_cast<size_t>(blocks));
  ParallelForDynamic(context, blocks, [&](int64_t block, int) {
    double sum_change = 0;
    double sum_size = 0;
    for (int64_t row = block * kBlock; row < std::min(rows, (block + 1) * kBlock); ++row) {
      const float* from =
          a.data<float>() + row / a.dim(1) * a.stride(0) + row % a.dim(1) * a.stride(1);
      float* to = b.data<float>() + row * b.dim(2);
      float row_change = 0;
      float row_size = 0;
      for (int64_t k = 0; k < b.dim(2); ++k) {
        row_change += std::abs(from[k] - to[k]);
        row_size += std::abs(to[k]);
        to[k] = from[k];
      }
      sum_change += row_change;
      sum_size += row_size;
    }
    change[static_cast<size_t>(block)] = sum_change;
    size[static_cast<size_t>(block)] = sum_size;
  });
  double total_change = 0;
  double total_size = 0;
  for (const double value : change) total_change += value;
  for (const double value : size) total_size += value;
  return total_size > 0 ? total_change / total_size : INFINITY;
}

}  // namespace

StepCache::StepCache(const SparsityConfig& config, const SparseGeometry& geometry,
                     StateBuilder& state)
    : is_enabled_(config.step_caching.is_enabled),
      threshold_(config.step_caching.threshold),
      extrapolates_(config.step_caching.order == 1) {
  if (!is_enabled_) return;
  const Shape prediction_shape = {geometry.batch, geometry.image_tokens(),
                                  geometry.prediction_channels};
  prediction_ = state.Make("step cache", prediction_shape);
  if (extrapolates_) earlier_ = state.Make("step cache", prediction_shape);
  if (threshold_ > 0) {
    previous_input_ =
        state.Make("step cache", {geometry.batch, geometry.image_tokens(), geometry.model_dim});
  }
}

bool StepCache::ShouldRun(Context& context, bool must_run, ConstTensorView modulated_input) {
  if (!is_enabled_ || threshold_ <= 0) return true;
  CheckTensor("step cache", "modulated_input", modulated_input, DType::kF32,
              previous_input_.shape());
  const double change = ReplaceAndMeasureChange(context, modulated_input, previous_input_);
  accumulated_ += has_input_ ? change : 0;
  has_input_ = true;
  // Not a number counts as a large change.
  if (!must_run && has_prediction_ && accumulated_ < threshold_) return false;
  accumulated_ = 0;
  return true;
}

void StepCache::Store(Context& context, ConstTensorView prediction) {
  if (!is_enabled_) return;
  CheckTensor("step cache", "prediction", prediction, DType::kF32, prediction_.shape());
  if (extrapolates_ && has_prediction_) {
    std::swap(prediction_, earlier_);
    earlier_time_ = prediction_time_;
    has_earlier_ = true;
  }
  CopyRows(context, prediction, prediction_);
  prediction_time_ = time_;
  has_prediction_ = true;
}

void StepCache::Predict(Context& context, TensorView output) const {
  TAMIAS_CHECK(has_prediction_);
  CheckTensor("step cache", "output", output, DType::kF32, prediction_.shape());
  CopyRows(context, prediction_.view(), output);
  if (!has_earlier_ || prediction_time_ == earlier_time_) return;
  const double slope = (time_ - prediction_time_) / (prediction_time_ - earlier_time_);
  Axpy(context, static_cast<float>(slope), prediction_.view(), output);
  Axpy(context, static_cast<float>(-slope), earlier_.view(), output);
}

}  // namespace tamias
