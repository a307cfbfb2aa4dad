// One model of a pipeline on the CPU, with the weights of its files, and once they were copied in
// bf16 on the CPU and on GPUs: the same class built from another Weights.
#pragma once

#include <array>
#include <memory>
#include <mutex>

#include "base/check.h"
#include "tamias/context.h"
#include "tamias/weights.h"

namespace tamias {

template <typename Model>
class ModelOnDevices {
 public:
  template <typename Config>
  ModelOnDevices(const Config& config, const Weights& weights)
      : weights_(weights), on_cpu_(config, weights) {}

  // Copies the weights to the context's device in the type of its activations, those that lie there
  // in that type already excepted; nothing for f32 on the CPU, which takes weights of any type.
  void CopyTo(const Context& context) const {
    if (ServesFiles(context)) return;
    copies_[SlotOf(context)] =
        std::make_unique<Model>(on_cpu_.config(), weights_.CopyToDevice(context));
  }

  // The model whose weights CopyTo copied for the context's placement; for a plan one of which the
  // copies have no memory. Not const: models may be prepared once.
  Model& On(const Context& context) const {
    if (ServesFiles(context)) return on_cpu_;
    if (!context.IsPlanning()) return *copies_[SlotOf(context)];
    const std::lock_guard lock(*mutex_);
    std::unique_ptr<Model>& planned = planned_[context.IsOnGpu() ? 1 : 0];
    if (planned == nullptr) {
      planned = std::make_unique<Model>(on_cpu_.config(), weights_.CopyToDevice(context));
    }
    return *planned;
  }

  const auto& config() const { return on_cpu_.config(); }
  const Model& on_cpu() const { return on_cpu_; }
  const Weights& weights() const { return weights_; }

 private:
  static constexpr int kMaxGpus = 64;

  static bool ServesFiles(const Context& context) {
    return !context.IsOnGpu() && context.activation_dtype() == DType::kF32;
  }

  // One of bf16 on the CPU, two for each GPU: of bf16 and of f16.
  static size_t SlotOf(const Context& context) {
    if (!context.IsOnGpu()) return 0;
    const int gpu = context.device().index;
    if (gpu >= kMaxGpus) {
      Fail(ErrorCode::kUnsupported, "device: expected a number below {}, found {}", kMaxGpus,
           Name(context.device()));
    }
    return static_cast<size_t>(1 + 2 * gpu + (context.activation_dtype() == DType::kF16 ? 1 : 0));
  }

  Weights weights_;
  mutable Model on_cpu_;
  // Fixed: the model of one placement is read while that of another is made.
  mutable std::array<std::unique_ptr<Model>, 1 + 2 * kMaxGpus> copies_;
  std::unique_ptr<std::mutex> mutex_ = std::make_unique<std::mutex>();  // of the next
  mutable std::array<std::unique_ptr<Model>, 2> planned_;               // on the CPU, on a GPU
};

}  // namespace tamias
