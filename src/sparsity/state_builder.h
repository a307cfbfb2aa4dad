// Makes the tensors that live from step to step and keeps account of them. The same code plans
// (nothing is allocated) and allocates, so that a plan is exact by construction. State may live in
// memory of the host or of a GPU or, spilled, in a file, of which one layer at a time is in memory.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/context.h"
#include "base/tensor.h"
#include "io/spill_file.h"

namespace tamias {

// What one attention or MLP keeps, where it is spilled; empty where it is not.
struct SpilledRange {
  std::byte* begin = nullptr;
  size_t bytes = 0;
  // Out of memory until the layer's turn comes again.
  void Release() const { ReleasePages(begin, bytes); }
};

class StateBuilder {
 public:
  // With a file, tensors are made there; it holds spill_bytes() of a plan at least.
  explicit StateBuilder(bool only_plans, std::shared_ptr<SpillFile> file = {})
      : only_plans_(only_plans), file_(std::move(file)) {}
  // Plans state in the memory of a device.
  explicit StateBuilder(const Placement& planned) : only_plans_(true), placement_(planned) {}
  // Makes it there. The context must outlive this, and zeroing is enqueued on its queue.
  explicit StateBuilder(const Context& context)
      : only_plans_(false), placement_(context.placement()), context_(&context) {}

  // Zeroed memory; an empty tensor when planning.
  Tensor Make(std::string_view name, Shape shape, DType dtype = DType::kF32);
  // Counts memory that is held elsewhere.
  void Count(std::string_view name, size_t bytes);
  // What is made in between belongs to one attention or MLP.
  void BeginPart();
  SpilledRange EndPart();

  bool only_plans() const { return only_plans_; }
  const Placement& placement() const { return placement_; }
  // Bytes by name, in the order of first use.
  const std::vector<std::pair<std::string, size_t>>& entries() const { return entries_; }
  // What a file must hold for everything made so far.
  size_t spill_bytes() const { return position_; }
  // What of it is in memory at one time when it is spilled: the largest part, and all that belongs
  // to no part or is held elsewhere.
  size_t spill_resident_bytes() const { return position_ - parts_ + largest_part_ + counted_; }

 private:
  void AddEntry(std::string_view name, size_t bytes);

  bool only_plans_;
  Placement placement_;
  const Context* context_ = nullptr;  // null: memory of the host, or the file
  std::shared_ptr<SpillFile> file_;
  std::vector<std::pair<std::string, size_t>> entries_;
  size_t position_ = 0;  // of the next tensor in the file
  size_t part_begin_ = 0;
  size_t largest_part_ = 0;
  size_t parts_ = 0;    // bytes of all parts
  size_t counted_ = 0;  // bytes held elsewhere
};

}  // namespace tamias
