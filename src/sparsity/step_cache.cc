// The change of the modulated input [B, N, d] between two steps is sum |a - b| / sum |b|; what is
// extrapolated is a line through two predictions, read off at the noise level of the step.
#include "sparsity/step_cache.h"

#include <cmath>
#include <utility>

#include "base/check.h"
#include "ops/check_tensor.h"
#include "ops/distance.h"
#include "ops/elementwise.h"

namespace tamias {
namespace {

// sum |a - b| / sum |b| over two tensors [B, N, d]; b becomes a.
double ReplaceAndMeasureChange(Context& context, ConstTensorView a, TensorView b) {
  const Distance distance = MeasureDistance(context, a, b);
  Convert(context, a, b);
  return distance.absolute_reference > 0 ? distance.absolute / distance.absolute_reference
                                         : INFINITY;
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
        state.Make("step cache", {geometry.batch, geometry.image_tokens(), geometry.model_dim},
                   state.placement().activation_dtype);
  }
}

bool StepCache::ShouldRun(Context& context, bool must_run, ConstTensorView modulated_input) {
  if (!is_enabled_ || threshold_ <= 0) return true;
  CheckTensor("step cache", "modulated_input", modulated_input, previous_input_.dtype(),
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
  Convert(context, prediction, prediction_);
  prediction_time_ = time_;
  has_prediction_ = true;
}

void StepCache::Predict(Context& context, TensorView output) const {
  TAMIAS_CHECK(has_prediction_);
  CheckTensor("step cache", "output", output, DType::kF32, prediction_.shape());
  Convert(context, prediction_.view(), output);
  if (!has_earlier_ || prediction_time_ == earlier_time_) return;
  const double slope = (time_ - prediction_time_) / (prediction_time_ - earlier_time_);
  Axpy(context, static_cast<float>(slope), prediction_.view(), output);
  Axpy(context, static_cast<float>(-slope), earlier_.view(), output);
}

}  // namespace tamias
