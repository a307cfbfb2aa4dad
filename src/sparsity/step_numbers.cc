// Numbers that wait on the host for the end of a step: see the header.
#include "sparsity/step_numbers.h"

#include <algorithm>
#include <utility>

#include "base/cuda/event.h"
#include "base/cuda/memory.h"
#include "ops/enqueued_distance.h"
#include "tamias/device_memory.h"

namespace tamias {
namespace {

constexpr int64_t kPieceBytes = int64_t{1} << 20;
constexpr int64_t kAlignment = 64;

int64_t BytesOf(const Shape& shape, DType dtype) {
  const int64_t bytes = shape.NumElements() * static_cast<int64_t>(SizeOf(dtype));
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

}  // namespace

StepNumbers::StepNumbers() = default;
StepNumbers::~StepNumbers() {
  if (last_ != nullptr) last_->SynchronizeQuietly();  // copies into the memory may be under way
}

TensorView StepNumbers::Take(const Context& context, const Shape& shape, DType dtype) {
  const auto bytes = static_cast<size_t>(BytesOf(shape, dtype));
  while (piece_ < memory_.size() && used_ + bytes > memory_[piece_].bytes()) {
    ++piece_;
    used_ = 0;
  }
  if (piece_ == memory_.size()) {
    const int64_t size = std::max(kPieceBytes, static_cast<int64_t>(bytes));
    memory_.push_back(cuda::PinnedTensor({size}, DType::kU8, context.device().index));
  }
  std::byte* begin = static_cast<std::byte*>(memory_[piece_].view().raw()) + used_;
  used_ += bytes;
  return TensorView(begin, dtype, shape);
}

void StepNumbers::Read(Context& context, ConstTensorView view, Use use) {
  if (context.IsPlanning()) return;
  if (!context.IsOnGpu()) return use(view);
  const TensorView numbers = Take(context, view.shape(), view.dtype());
  cuda::Copy(context.stream(), view, numbers);
  if (last_ == nullptr) last_ = std::make_unique<cuda::Event>(context.device().index);
  last_->Record(context.stream());
  waiting_.push_back({numbers, std::move(use)});
}

void StepNumbers::Then(std::function<void()> use) {
  if (waiting_.empty()) return use();
  waiting_.push_back({{}, [use = std::move(use)](const ConstTensorView&) { use(); }});
}

void StepNumbers::Collect() {
  if (!waiting_.empty()) last_->Synchronize();
  for (const Waiting& one : std::exchange(waiting_, {})) one.use(one.numbers);
  piece_ = used_ = 0;
}

void ReadNumbers(StepNumbers* numbers, Context& context, ConstTensorView view,
                 StepNumbers::Use use) {
  if (numbers != nullptr) return numbers->Read(context, view, std::move(use));
  if (context.IsPlanning()) return;
  if (!context.IsOnGpu()) return use(view);
  const Tensor host = CopyToHost(context, view);
  use(host.view());
}

void MeasureLater(StepNumbers* numbers, Context& context, ConstTensorView a, ConstTensorView b,
                  std::function<void(const Distance&)> use) {
  if (!context.IsOnGpu()) return use(MeasureDistance(context, a, b));
  Workspace::Scope scope(context.workspace());
  ReadNumbers(numbers, context, EnqueueDistance(context, a, b),
              [use = std::move(use)](ConstTensorView sums) { use(AddUp(sums)); });
}

void ThenUse(StepNumbers* numbers, std::function<void()> use) {
  if (numbers != nullptr) return numbers->Then(std::move(use));
  use();
}

}  // namespace tamias
