// Flow schedulers, what they share: see the header.
#include "models/schedulers/flow_scheduler.h"

#include "base/check.h"
#include "tamias/ops/elementwise.h"

namespace tamias {

ConstTensorView FlowScheduler::DrawNoise(const Shape& shape) {
  TAMIAS_CHECK(noise_ != nullptr);
  if (drawn_.empty()) drawn_ = Tensor(shape, DType::kF32);
  noise_(drawn_);
  return drawn_;
}

void FlowScheduler::RenewNoise(Context& context, int step, ConstTensorView prediction,
                               TensorView sample) {
  const float next = sigma(step + 1);
  Axpy(context, -sigma(step), prediction, sample);
  ScaleShift(context, sample, 1 - next, 0, sample);
  Axpy(context, next, DrawNoise(sample.shape()), sample);
}

void CheckNumSteps(int num_steps) {
  if (num_steps < 1) {
    Fail(ErrorCode::kInvalidArgument, "scheduler: expected at least one step, found {}", num_steps);
  }
}

std::vector<double> Linspace(double first, double last, int count) {
  CheckNumSteps(count);
  const double stride = count > 1 ? (last - first) / (count - 1) : 0;
  std::vector<double> values;
  for (int i = 0; i < count; ++i) values.push_back(first + stride * i);
  if (count > 1) values.back() = last;
  return values;
}

double ShiftSigma(double shift, double sigma) { return shift * sigma / (1 + (shift - 1) * sigma); }

}  // namespace tamias
