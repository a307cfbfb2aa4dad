// Copies of the host's memory to a GPU, gigabytes of weights say, through two pieces of pinned
// memory in turn: while the GPU fetches one by itself, all threads fill the other. Memory that is
// not pinned the driver would copy through a piece of its own with one thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "tamias/context.h"
#include "tamias/tensor.h"

namespace tamias {

namespace cuda {
class Event;
}

class PinnedUpload {
 public:
  // Of the context's GPU; takes twice `piece_bytes` of pinned memory. The context must outlive it.
  explicit PinnedUpload(const Context& context, int64_t piece_bytes = int64_t{16} << 20);
  // Waits for the copies.
  ~PinnedUpload();
  PinnedUpload(const PinnedUpload&) = delete;
  PinnedUpload& operator=(const PinnedUpload&) = delete;

  // Enqueues a copy between contiguous tensors of one shape and one dtype. The host's memory may
  // change once this returns.
  void Copy(ConstTensorView host, TensorView device);

 private:
  struct Piece {
    Tensor memory;
    std::unique_ptr<cuda::Event> has_left;
  };

  const Context& context_;
  std::vector<Piece> pieces_;
  size_t next_ = 0;
};

}  // namespace tamias
