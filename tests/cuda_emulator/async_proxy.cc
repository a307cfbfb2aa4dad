// The pieces of shared memory and who wrote them: see the header.
#include "tests/cuda_emulator/async_proxy.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <vector>

#include "base/check.h"
#include "tests/cuda_emulator/block.h"

namespace tamias::cuda_emulator {
namespace {

constexpr size_t kPieceBytes = 16;
constexpr uint64_t kInFlight = std::numeric_limits<uint64_t>::max();

struct Piece {
  uint64_t written = 0;  // when; 0: needs no fence
  unsigned thread = 0;
  std::array<std::byte, kPieceBytes> content;
};

struct Proxy {
  uint64_t now = 0;
  std::vector<Piece> pieces;     // of dynamic shared memory
  std::vector<uint64_t> fenced;  // by thread: when last
};

thread_local Proxy proxy;

template <typename Change>
void ForPieces(const void* shared, size_t bytes, const Change& change) {
  const auto* begin = static_cast<const std::byte*>(shared);
  const std::byte* memory = ClusterMemory();
  if (begin < memory || begin >= memory + ClusterMemoryBytes()) return;
  const auto offset = static_cast<size_t>(begin - memory);
  for (size_t i = offset / kPieceBytes; i * kPieceBytes < offset + bytes; ++i) {
    if (i >= proxy.pieces.size()) return;
    std::memcpy(proxy.pieces[i].content.data(), memory + i * kPieceBytes, kPieceBytes);
    change(proxy.pieces[i]);
  }
}

}  // namespace

void BeginAsyncProxy() {
  proxy.now = 0;
  proxy.fenced.assign(ClusterThreads(), 0);
  Piece fresh;
  fresh.content.fill(std::byte{0xFF});
  proxy.pieces.assign(ClusterMemoryBytes() / kPieceBytes, fresh);
}

void FenceAsyncProxy() { proxy.fenced[CurrentThread()] = ++proxy.now; }

void StoreOperand(void* shared, const void* word, size_t bytes) {
  CheckAligned("StoreOperand", shared, bytes);
  std::memcpy(shared, word, bytes);
  NoteWritten(shared, bytes, CurrentThread());
}

void NoteCopyStarted(const void* shared, size_t bytes) {
  ForPieces(shared, bytes, [](Piece& piece) { piece.written = kInFlight; });
}

void NoteWritten(const void* shared, size_t bytes, unsigned thread) {
  ++proxy.now;
  ForPieces(shared, bytes, [&](Piece& piece) {
    piece.written = proxy.now;
    piece.thread = thread;
  });
}

void NoteWrittenByAsyncProxy(const void* shared, size_t bytes) {
  ForPieces(shared, bytes, [](Piece& piece) { piece.written = 0; });
}

void CheckReadable(const char* operation, size_t offset, unsigned first_thread) {
  const std::byte* place = SharedMemoryOf(first_thread) + offset;
  const Piece& piece = proxy.pieces[static_cast<size_t>(place - ClusterMemory()) / kPieceBytes];
  if (std::memcmp(piece.content.data(), place, kPieceBytes) != 0) {
    Refuse(
        fmt::format("{}: byte {} of shared memory was written by an ordinary store: expected "
                    "StoreOperand, which the emulator sees",
                    operation, offset));
  }
  if (piece.written == kInFlight) {
    Refuse(fmt::format("{}: byte {} of shared memory: a copy to it has not landed", operation,
                       offset));
  }
  if (piece.written == 0 || piece.written < proxy.fenced[piece.thread]) return;
  const auto* fenced = proxy.fenced.data() + first_thread;
  if (piece.written < *std::min_element(fenced, fenced + 32)) return;
  Refuse(fmt::format("{}: byte {} of shared memory: no fence.proxy.async since thread {} wrote it",
                     operation, offset, piece.thread));
}

}  // namespace tamias::cuda_emulator
