// The change of the modulated input [B, N, d] between two steps is sum |a - b| / sum |b|; what is
// extrapolated is a line through two predictions, read off at the noise level of the step.
#include "sparsity/step_cache.h"

#include <cmath>
#include <utility>

#include "base/check.h"
#include "ops/check_tensor.h"
#include "tamias/ops/distance.h"
#include "tamias/ops/elementwise.h"

namespace tamias {
namespace {

// sum |a - b| / sum |b|
double RelativeChange(const Distance& distance) {
  return distance.absolute_reference > 0 ? distance.absolute / distance.absolute_reference
                                         : INFINITY;
}

// The hidden state is kept in the activations' type, as the reference keeps it on a GPU, unless
// that is f16, whose range the residual stream of large models leaves.
DType HiddenDType(const Placement& placement) {
  return placement.activation_dtype == DType::kF16 ? DType::kF32 : placement.activation_dtype;
}

}  // namespace

StepCache::StepCache(const SparsityConfig::StepCaching& config, const SparseGeometry& geometry,
                     StateBuilder& state)
    : is_enabled_(config.is_enabled), threshold_(config.threshold), reuse_(config.reuse) {
  if (!is_enabled_) return;
  const int64_t tokens = geometry.own_image().size();
  const Shape hidden = {geometry.batch, tokens, geometry.model_dim};
  const Shape prediction = {geometry.batch, tokens, geometry.prediction_channels};
  value_ = keeps_hidden() ? state.Make("step cache", hidden, HiddenDType(state.placement()))
                          : state.Make("step cache", prediction);
  if (reuse_ == StepReuse::kExtrapolate) earlier_ = state.Make("step cache", prediction);
  if (threshold_ > 0) {
    previous_input_ = state.Make("step cache", hidden, state.placement().activation_dtype);
  }
}

bool StepCache::ShouldRun(Context& context, bool must_run, ConstTensorView modulated_input,
                          const OverRanks& over_ranks) {
  if (!compares_inputs()) return true;
  CheckTensor("step cache", "modulated_input", modulated_input, previous_input_.dtype(),
              previous_input_.shape());
  Distance distance = MeasureDistance(context, modulated_input, previous_input_);
  Convert(context, modulated_input, previous_input_);
  if (over_ranks) distance = over_ranks(distance);
  accumulated_ += has_input_ ? RelativeChange(distance) : 0;
  has_input_ = true;
  // Not a number counts as a large change.
  if (!must_run && has_value_ && accumulated_ < threshold_) return false;
  accumulated_ = 0;
  return true;
}

void StepCache::Forget() {
  has_value_ = false;
  has_earlier_ = false;
  has_input_ = false;
  accumulated_ = 0;
}

void StepCache::Store(Context& context, ConstTensorView value) {
  if (!is_enabled_) return;
  CheckTensor("step cache", keeps_hidden() ? "hidden" : "prediction", value, DType::kF32,
              value_.shape());
  if (reuse_ == StepReuse::kExtrapolate && has_value_) {
    std::swap(value_, earlier_);
    earlier_time_ = value_time_;
    has_earlier_ = true;
  }
  Convert(context, value, value_);
  value_time_ = time_;
  has_value_ = true;
}

void StepCache::Reuse(Context& context, TensorView output) const {
  if (!has_value_) {
    Fail(ErrorCode::kInvalidArgument,
         "step cache: a step is skipped before any has stored what it is computed from");
  }
  CheckTensor("step cache", "output", output, DType::kF32, value_.shape());
  Convert(context, value_.view(), output);
  if (!has_earlier_ || value_time_ == earlier_time_) return;
  const double slope = (time_ - value_time_) / (value_time_ - earlier_time_);
  Axpy(context, static_cast<float>(slope), value_.view(), output);
  Axpy(context, static_cast<float>(-slope), earlier_.view(), output);
}

}  // namespace tamias
