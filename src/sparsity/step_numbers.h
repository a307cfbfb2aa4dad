// Numbers that a step's work leaves on a GPU and its report wants: how many columns and neurons
// were chosen, how far caches have drifted. They are copied to the host behind the work and looked
// at when the step ends, so that no layer waits for them. On the CPU they are there at once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "tamias/context.h"
#include "tamias/ops/distance.h"
#include "tamias/tensor.h"

namespace tamias {

namespace cuda {
class Event;
}

class StepNumbers {
 public:
  StepNumbers();
  ~StepNumbers();
  StepNumbers(const StepNumbers&) = delete;
  StepNumbers& operator=(const StepNumbers&) = delete;

  using Use = std::function<void(ConstTensorView host)>;
  // use(the contents, on the host) of a contiguous view of the context's device, whose memory may
  // be written again by what is enqueued afterwards. Nothing when planning.
  void Read(Context& context, ConstTensorView view, Use use);
  // After all that was read before.
  void Then(std::function<void()> use);
  // Waits for what was read, unless it is known to be there, and looks at it.
  void Collect();

 private:
  // Pinned memory of one GPU, in pieces that are used again from step to step.
  TensorView Take(const Context& context, const Shape& shape, DType dtype);

  struct Waiting {
    TensorView numbers;
    Use use;
  };
  std::vector<Waiting> waiting_;
  std::vector<Tensor> memory_;
  size_t piece_ = 0, used_ = 0;        // of the memory: the piece in use, bytes of it taken
  std::unique_ptr<cuda::Event> last_;  // of the copies
};

// As StepNumbers::Read, and at once, after waiting for the context, without numbers.
void ReadNumbers(StepNumbers* numbers, Context& context, ConstTensorView view,
                 StepNumbers::Use use);
// use(the distance of a and b), likewise.
void MeasureLater(StepNumbers* numbers, Context& context, ConstTensorView a, ConstTensorView b,
                  std::function<void(const Distance&)> use);
// As StepNumbers::Then; at once without numbers.
void ThenUse(StepNumbers* numbers, std::function<void()> use);

}  // namespace tamias
