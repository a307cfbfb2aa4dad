// Uploads through pinned memory: see the header.
#include "base/pinned_upload.h"

#include <algorithm>

#include "base/check.h"
#include "base/cuda/event.h"
#include "base/cuda/memory.h"
#include "base/parallel.h"

namespace tamias {

PinnedUpload::PinnedUpload(const Context& context, int64_t piece_bytes) : context_(context) {
  const int device = context.device().index;
  for (int i = 0; i < 2; ++i) {
    pieces_.push_back({cuda::PinnedTensor({piece_bytes}, DType::kU8, device),
                       std::make_unique<cuda::Event>(device)});
  }
}

PinnedUpload::~PinnedUpload() {
  for (const Piece& piece : pieces_) piece.has_left->SynchronizeQuietly();
}

void PinnedUpload::Copy(ConstTensorView host, TensorView device) {
  TAMIAS_CHECK(host.shape() == device.shape() && host.dtype() == device.dtype());
  TAMIAS_CHECK(host.NumElements() == 0 || (host.IsContiguous() && device.IsContiguous()));
  const auto* from = static_cast<const std::byte*>(host.raw());
  auto* to = static_cast<std::byte*>(device.raw());
  const int64_t bytes = host.NumElements() * static_cast<int64_t>(SizeOf(host.dtype()));
  const int64_t piece_bytes = pieces_[0].memory.dim(0);
  for (int64_t begin = 0; begin < bytes; begin += piece_bytes) {
    Piece& piece = pieces_[next_];
    next_ = 1 - next_;
    piece.has_left->Synchronize();
    const int64_t count = std::min(piece_bytes, bytes - begin);
    const TensorView pinned = piece.memory.view().Slice(0, 0, count);
    ParallelCopy(context_, from + begin, count, pinned.raw());
    cuda::Copy(context_.stream(), pinned,
               TensorView(to + begin, DType::kU8, {count}, device.device()));
    piece.has_left->Record(context_.stream());
  }
}

}  // namespace tamias
