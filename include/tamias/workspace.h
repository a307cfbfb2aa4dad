// Scratch memory of one stage: a stack of blocks that grows to the high-water mark of the first
// step and is then reused without touching the allocator (fresh pages cost as much as a small
// operation). One that measures has no memory: its views tell their shapes, and it counts what a
// real one would hand out. Not thread-safe: one workspace belongs to one stage of one generation.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "tamias/tensor.h"

namespace tamias {

class Workspace {
 public:
  // Reserves `capacity` bytes of the device's memory up front; throws kOutOfMemory.
  explicit Workspace(size_t capacity = 0, Device device = {});
  static Workspace Measuring(Device device);

  // Uninitialised, aligned to 64 bytes (256 on a GPU), valid until the enclosing Scope ends. Work
  // of a GPU that uses it may still be enqueued then: what takes the memory next runs after it.
  TensorView Allocate(Shape shape, DType dtype);
  TensorView AllocateBytes(size_t bytes) {
    return Allocate({static_cast<int64_t>(bytes)}, DType::kU8);
  }

  size_t peak_bytes() const { return peak_; }
  size_t reserved_bytes() const;

  // Everything allocated after the scope began is free again when it ends.
  class Scope {
   public:
    explicit Scope(Workspace& workspace)
        : workspace_(workspace),
          block_(workspace.block_),
          used_(workspace.used_),
          live_(workspace.live_) {}
    ~Scope() {
      workspace_.block_ = block_;
      workspace_.used_ = used_;
      workspace_.live_ = live_;
    }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    Workspace& workspace_;
    size_t block_;
    size_t used_;
    size_t live_;
  };

 private:
  void AddBlock(size_t bytes);

  Device device_;
  bool measures_ = false;
  std::vector<Tensor> blocks_;
  size_t block_ = 0;  // the block in use
  size_t used_ = 0;   // bytes used in it
  size_t live_ = 0;   // bytes handed out and not yet returned
  size_t peak_ = 0;
};

}  // namespace tamias
