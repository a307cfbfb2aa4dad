// One model of a pipeline on the CPU, with the weights of its files, and once they were copied in
// other types on the CPU and on GPUs: the same class built from another Weights.
#pragma once

#include <array>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "tamias/context.h"
#include "tamias/weights.h"

namespace tamias {

// Whether models read their weights where the files lie, and nothing is copied.
inline bool ServesFiles(const Placement& placement) {
  return !placement.IsOnGpu() && placement.activation_dtype == DType::kF32 &&
         !placement.weight_dtype;
}

// A model as it is loaded and let go, whatever its class.
class PlacedModel {
 public:
  virtual ~PlacedModel() = default;
  virtual const Weights& weights() const = 0;
  // The blocks that may be streamed, in the order in which they run; none: the model is on a GPU
  // whole or not at all.
  virtual std::vector<std::string> BlockPaths() const = 0;
  // Copies the weights to the context's device in the types of its placement, those that lie there
  // in their type already excepted; nothing for f32 on the CPU, which takes weights of any type,
  // unless the placement asks for one. streamed, pinned: as Weights::CopyToDevice. Returns the
  // copy's pinned blocks.
  virtual std::shared_ptr<const PinnedParts> CopyTo(
      const Context& context, const std::vector<std::string>& streamed,
      std::shared_ptr<const PinnedParts> pinned) const = 0;
  // Lets go what CopyTo copied and PrepareForSparsity made; nothing of it may be in use.
  virtual void Drop(const Placement& placement) const = 0;
  // Of transformers: before a generation with sparse MLPs at the context's placement.
  virtual void PrepareForSparsity(Context& context) const = 0;
  // Lets go what that made; generations without sparse MLPs may run.
  virtual void DropPrepared(const Placement& placement) const = 0;
  virtual size_t SparsityWeightBytes(const Placement& placement) const = 0;
};

template <typename Model>
class ModelOnDevices final : public PlacedModel {
 public:
  template <typename Config>
  ModelOnDevices(const Config& config, const Weights& weights)
      : weights_(weights), on_cpu_(config, weights) {}

  std::shared_ptr<const PinnedParts> CopyTo(
      const Context& context, const std::vector<std::string>& streamed = {},
      std::shared_ptr<const PinnedParts> pinned = nullptr) const override {
    if (ServesFiles(context.placement())) return nullptr;
    const Weights copy = weights_.CopyToDevice(context, streamed, std::move(pinned));
    copies_[SlotOf(context.placement())] = std::make_unique<Model>(on_cpu_.config(), copy);
    return copy.pinned();
  }
  void Drop(const Placement& placement) const override {
    if (ServesFiles(placement)) return DropPrepared(placement);
    copies_[SlotOf(placement)].reset();
  }

  // The model whose weights CopyTo copied for the context's placement; for a plan one of which the
  // copies have no memory. Not const: models may be prepared once.
  Model& On(const Context& context) const {
    if (ServesFiles(context.placement())) return on_cpu_;
    if (!context.IsPlanning()) return *copies_[SlotOf(context.placement())];
    const std::lock_guard lock(*mutex_);
    std::unique_ptr<Model>& planned = planned_[SlotOf(context.placement())];
    if (planned == nullptr) {
      planned = std::make_unique<Model>(on_cpu_.config(), weights_.CopyToDevice(context));
    }
    return *planned;
  }

  std::vector<std::string> BlockPaths() const override {
    if constexpr (requires(const Model& model) { model.BlockPaths(); }) {
      return on_cpu_.BlockPaths();
    } else {
      return {};
    }
  }
  void PrepareForSparsity(Context& context) const override {
    if constexpr (requires(Model & model) { model.PrepareForSparsity(context); }) {
      On(context).PrepareForSparsity(context);
    }
  }
  void DropPrepared(const Placement& placement) const override {
    if constexpr (requires(Model & model) { model.DropPrepared(); }) {
      Model* model = ServesFiles(placement) ? &on_cpu_ : copies_[SlotOf(placement)].get();
      if (model != nullptr) model->DropPrepared();
    }
  }
  size_t SparsityWeightBytes(const Placement& placement) const override {
    if constexpr (requires(const Model& model) { model.SparsityWeightBytes(placement); }) {
      return on_cpu_.SparsityWeightBytes(placement);
    } else {
      return 0;
    }
  }

  const auto& config() const { return on_cpu_.config(); }
  const Model& on_cpu() const { return on_cpu_; }
  const Weights& weights() const override { return weights_; }

 private:
  static constexpr int kMaxGpus = 64;
  static constexpr int kSlots = 4;  // of a device

  // Four of each device: its two types of activations, each with matrices in it and in 8 bits.
  static size_t SlotOf(const Placement& placement) {
    const int gpu = placement.IsOnGpu() ? placement.device.index : -1;
    if (gpu >= kMaxGpus) {
      Fail(ErrorCode::kUnsupported, "device: expected a number below {}, found {}", kMaxGpus,
           Name(placement.device));
    }
    const int activations = placement.activation_dtype == DType::kBF16 ? 0 : 1;
    return static_cast<size_t>(kSlots * (1 + gpu) + 2 * activations +
                               (placement.weight_dtype ? 1 : 0));
  }

  Weights weights_;
  mutable Model on_cpu_;
  // Fixed: the model of one placement is read while that of another is made.
  mutable std::array<std::unique_ptr<Model>, kSlots*(1 + kMaxGpus)> copies_;
  std::unique_ptr<std::mutex> mutex_ = std::make_unique<std::mutex>();  // of the next
  mutable std::array<std::unique_ptr<Model>, kSlots * 2> planned_;  // on the CPU, on the first GPU
};

}  // namespace tamias
