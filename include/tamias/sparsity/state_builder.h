// Makes the tensors that live from step to step and keeps account of them. With a planning context
// they have no memory, so that a plan is exact by construction. State may live in memory of the
// host or of a GPU or, spilled, in a file, of which one layer at a time is in memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tamias/context.h"
#include "tamias/tensor.h"

namespace tamias {

class OffloadedParts;
class SpillFile;

// What one attention or MLP keeps, where it is not in memory of its device all the time.
class StatePart {
 public:
  StatePart() = default;  // it is
  // Spilled to these pages of a file.
  StatePart(std::byte* begin, size_t bytes) : begin_(begin), bytes_(bytes) {}
  // In the host's memory but for its turn on the context's GPU.
  StatePart(std::shared_ptr<OffloadedParts> parts, size_t index)
      : parts_(std::move(parts)), index_(index) {}

  // Before and after what is enqueued with it. is_changed: it is to be kept as it is now.
  void Enter(const Context& context) const;
  void Leave(const Context& context, bool is_changed) const;

 private:
  std::byte* begin_ = nullptr;
  size_t bytes_ = 0;
  std::shared_ptr<OffloadedParts> parts_;
  size_t index_ = 0;
};

class StateBuilder {
 public:
  // In memory of the context's device, or in a file that holds spill_bytes() of a plan at least.
  // The context must outlive this, and zeroing is enqueued on its queue.
  explicit StateBuilder(const Context& context, std::shared_ptr<SpillFile> file = {})
      : context_(context), file_(std::move(file)) {}
  // With parts that take turns on the context's GPU: those of the builder's parts, in the order in
  // which they are made, that takes_turns says.
  StateBuilder(const Context& context, std::shared_ptr<OffloadedParts> parts,
               std::vector<bool> takes_turns)
      : context_(context), offloaded_(std::move(parts)), takes_turns_(std::move(takes_turns)) {}

  // What is made between BeginPart and EndPart.
  struct Part {
    std::optional<int64_t> layer;  // none: the step cache
    size_t bytes = 0;              // whole pages
  };

  // Zeroed; without memory when planning.
  Tensor Make(std::string_view name, Shape shape, DType dtype = DType::kF32);
  // Counts memory that is held elsewhere.
  void Count(std::string_view name, size_t bytes);
  // What is made in between belongs to one attention or MLP of a layer, or to the step cache.
  void BeginPart(std::optional<int64_t> layer = std::nullopt);
  StatePart EndPart();

  const Placement& placement() const { return context_.placement(); }
  // Bytes by name, in the order of first use.
  const std::vector<std::pair<std::string, size_t>>& entries() const { return entries_; }
  // What a file must hold for everything made so far.
  size_t spill_bytes() const { return position_; }
  // What of it is in memory at one time when it is spilled: the largest part, and all that belongs
  // to no part or is held elsewhere.
  size_t spill_resident_bytes() const { return unparted_bytes() + largest_part_; }
  // All that belongs to no part or is held elsewhere.
  size_t unparted_bytes() const { return position_ - parted_bytes_ + counted_; }
  // In the order in which they were made.
  const std::vector<Part>& parts() const { return parts_; }

 private:
  void AddEntry(std::string_view name, size_t bytes);
  // The part that is being made.
  bool TakesTurns() const { return offloaded_ != nullptr && takes_turns_[parts_.size()]; }

  const Context& context_;
  std::shared_ptr<SpillFile> file_;  // null: memory of the device
  std::shared_ptr<OffloadedParts> offloaded_;
  std::vector<bool> takes_turns_;
  size_t turn_ = 0;  // the next of the offloaded parts
  std::vector<std::pair<std::string, size_t>> entries_;
  size_t position_ = 0;  // of the next tensor in the file
  bool is_in_part_ = false;
  std::optional<int64_t> part_layer_;
  size_t part_begin_ = 0;
  std::vector<Part> parts_;
  size_t largest_part_ = 0;
  size_t parted_bytes_ = 0;  // of all parts
  size_t counted_ = 0;       // bytes held elsewhere
};

}  // namespace tamias
