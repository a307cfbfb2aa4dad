// One model of a pipeline on the CPU and, once its weights were copied there, on GPUs: the same
// class built from another Weights.
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

  // Copies the weights to the context's GPU, in the type of its activations.
  void CopyTo(const Context& context) const {
    const int gpu = context.device().index;
    if (gpu >= kMaxGpus) {
      Fail(ErrorCode::kUnsupported, "device: expected a number below {}, found {}", kMaxGpus,
           Name(context.device()));
    }
    on_gpu_[static_cast<size_t>(gpu)] =
        std::make_unique<Model>(on_cpu_.config(), weights_.CopyToDevice(context));
  }

  // The model whose weights lie on the context's device; for a plan of a GPU one whose weights have
  // no memory. Not const: models may be prepared once.
  Model& On(const Context& context) const {
    if (!context.IsOnGpu()) return on_cpu_;
    if (!context.IsPlanning()) return *on_gpu_[static_cast<size_t>(context.device().index)];
    const std::lock_guard lock(*mutex_);
    if (planned_ == nullptr) {
      planned_ = std::make_unique<Model>(on_cpu_.config(), weights_.CopyToDevice(context));
    }
    return *planned_;
  }

  const auto& config() const { return on_cpu_.config(); }
  const Model& on_cpu() const { return on_cpu_; }
  const Weights& weights() const { return weights_; }

 private:
  // Fixed: a device's model is read while that of another is made.
  static constexpr int kMaxGpus = 64;

  Weights weights_;
  mutable Model on_cpu_;
  mutable std::array<std::unique_ptr<Model>, kMaxGpus> on_gpu_;
  std::unique_ptr<std::mutex> mutex_ = std::make_unique<std::mutex>();  // of the next
  mutable std::unique_ptr<Model> planned_;
};

}  // namespace tamias
