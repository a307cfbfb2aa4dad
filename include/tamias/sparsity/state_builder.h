// Makes the tensors that live from step to step and keeps account of them. With a planning context
// they have no memory, so that a plan is exact by construction. State may live in memory of the
// host or of a GPU or, spilled, in a file, of which one layer at a time is in memory.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tamias/context.h"
#include "tamias/tensor.h"

namespace tamias {

class SpillFile;

// What one attention or MLP keeps, where it is spilled; empty where it is not.
struct SpilledRange {
  std::byte* begin = nullptr;
  size_t bytes = 0;
  // Out of memory until the layer's turn comes again.
  void Release() const;
};

class StateBuilder {
 public:
  // In memory of the context's device, or in a file that holds spill_bytes() of a plan at least.
  // The context must outlive this, and zeroing is enqueued on its queue.
  explicit StateBuilder(const Context& context, std::shared_ptr<SpillFile> file = {})
      : context_(context), file_(std::move(file)) {}

  // Zeroed; without memory when planning.
  Tensor Make(std::string_view name, Shape shape, DType dtype = DType::kF32);
  // Counts memory that is held elsewhere.
  void Count(std::string_view name, size_t bytes);
  // What is made in between belongs to one attention or MLP.
  void BeginPart();
  SpilledRange EndPart();

  const Placement& placement() const { return context_.placement(); }
  // Bytes by name, in the order of first use.
  const std::vector<std::pair<std::string, size_t>>& entries() const { return entries_; }
  // What a file must hold for everything made so far.
  size_t spill_bytes() const { return position_; }
  // What of it is in memory at one time when it is spilled: the largest part, and all that belongs
  // to no part or is held elsewhere.
  size_t spill_resident_bytes() const { return position_ - parts_ + largest_part_ + counted_; }

 private:
  void AddEntry(std::string_view name, size_t bytes);

  const Context& context_;
  std::shared_ptr<SpillFile> file_;  // null: memory of the device
  std::vector<std::pair<std::string, size_t>> entries_;
  size_t position_ = 0;  // of the next tensor in the file
  size_t part_begin_ = 0;
  size_t largest_part_ = 0;
  size_t parts_ = 0;    // bytes of all parts
  size_t counted_ = 0;  // bytes held elsewhere
};

}  // namespace tamias
