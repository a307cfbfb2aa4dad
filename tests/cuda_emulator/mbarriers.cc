// mbarriers: see the header.
#include "tests/cuda_emulator/mbarriers.h"

#include <cstring>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "base/check.h"
#include "tests/cuda_emulator/async_copies.h"
#include "tests/cuda_emulator/async_proxy.h"
#include "tests/cuda_emulator/block.h"
#include "tests/cuda_emulator/landings.h"

namespace tamias::cuda_emulator {
namespace {

constexpr uint64_t kMark = 0x6D62617272696572;
constexpr int kNaNByte = 0xFF;

struct BulkCopy {
  void* to;
  const void* from;
  uint32_t bytes;
};

struct Mbarrier {
  uint32_t arrivals = 0;  // of a phase
  uint32_t missing = 0;   // of the phase that is not complete
  int64_t bytes = 0;      // expected and not yet there
  int64_t phase = 0;      // that is not complete
  unsigned initialiser = 0;
  bool is_fenced = false;
  int64_t delay = -1;  // of the copies that arrive in this phase; -1: not drawn yet
  std::vector<unsigned> waiting;
  std::map<unsigned, int64_t> seen;  // by thread: the last phase that it knows to be complete
  std::vector<std::shared_ptr<CopyBatch>> batches;  // landing with the phase
  std::vector<BulkCopy> bulk_copies;
};

thread_local std::map<const void*, Mbarrier> mbarriers;  // of the block, by address

int64_t PlaceOf(const void* barrier) {
  return static_cast<const std::byte*>(barrier) - DynamicSharedMemory();
}

Mbarrier& Find(const char* operation, const uint64_t* barrier) {
  const auto found = mbarriers.find(barrier);
  if (found == mbarriers.end()) {
    Refuse(fmt::format("{}: mbarrier {} was not initialised", operation, PlaceOf(barrier)));
  }
  if (*barrier != kMark) {
    Refuse(fmt::format("{}: mbarrier {} was overwritten", operation, PlaceOf(barrier)));
  }
  Mbarrier& state = found->second;
  if (!state.is_fenced) {
    Refuse(fmt::format("{}: mbarrier {}: no fence since its initialisation", operation,
                       PlaceOf(barrier)));
  }
  return state;
}

void Land(const BulkCopy& copy) {
  if (copy.from == nullptr) {
    std::memset(copy.to, 0, copy.bytes);
  } else {
    std::memcpy(copy.to, copy.from, copy.bytes);
  }
  NoteWrittenByAsyncProxy(copy.to, copy.bytes);
}

void CompleteWhenAllIsThere(Mbarrier& state) {
  if (state.missing > 0 || state.bytes != 0) return;
  for (const auto& batch : std::exchange(state.batches, {})) Land(*batch);
  for (const BulkCopy& copy : std::exchange(state.bulk_copies, {})) Land(copy);
  ++state.phase;
  state.delay = -1;
  state.missing = state.arrivals;
  for (const unsigned thread : std::exchange(state.waiting, {})) Wake(thread);
}

void Arrive(const char* operation, const uint64_t* barrier, Mbarrier& state) {
  if (state.missing == 0) {
    Refuse(fmt::format("{}: mbarrier {}: phase {} has had its {} arrivals and waits for bytes",
                       operation, PlaceOf(barrier), state.phase, state.arrivals));
  }
  --state.missing;
  CompleteWhenAllIsThere(state);
}

}  // namespace

void BeginMbarriers() { mbarriers.clear(); }

void EndMbarriers() {
  while (LandSomething()) {
  }
  for (const auto& [place, state] : mbarriers) {
    if (state.missing == state.arrivals && state.bytes == 0) continue;
    Refuse(fmt::format(
        "the block ended while phase {} of mbarrier {} had {} of {} arrivals and "
        "waited for {} bytes",
        state.phase, PlaceOf(place), state.arrivals - state.missing, state.arrivals, state.bytes));
  }
}

void MbarrierInit(uint64_t* barrier, uint32_t arrivals) {
  CheckAligned("mbarrier.init", barrier, sizeof(*barrier));
  if (arrivals == 0) Refuse("mbarrier.init: expected at least 1 arrival, found 0");
  *barrier = kMark;
  Mbarrier& state = mbarriers[barrier] = {};
  state.arrivals = state.missing = arrivals;
  state.initialiser = CurrentThread();
}

void FenceMbarrierInit() {
  for (auto& [place, state] : mbarriers) {
    if (state.initialiser == CurrentThread()) state.is_fenced = true;
  }
}

void MbarrierArrive(uint64_t* barrier) {
  constexpr const char* kName = "mbarrier.arrive";
  Arrive(kName, barrier, Find(kName, barrier));
}

void MbarrierArriveExpect(uint64_t* barrier, uint32_t bytes) {
  constexpr const char* kName = "mbarrier.arrive.expect_tx";
  Mbarrier& state = Find(kName, barrier);
  state.bytes += bytes;
  Arrive(kName, barrier, state);
}

void MbarrierArriveCopies(uint64_t* barrier) {
  constexpr const char* kName = "cp.async.mbarrier.arrive";
  Mbarrier& found = Find(kName, barrier);
  if (found.delay < 0) found.delay = DrawDelay();
  LandLater(CurrentThread(), found.delay, [barrier, batches = CopiesInFlight()] {
    Mbarrier& state = Find(kName, barrier);
    state.batches.insert(state.batches.end(), batches.begin(), batches.end());
    Arrive(kName, barrier, state);
  });
}

void MbarrierWait(uint64_t* barrier, uint32_t parity) {
  constexpr const char* kName = "mbarrier.try_wait";
  if (parity > 1) Refuse(fmt::format("{}: expected parity 0 or 1, found {}", kName, parity));
  Mbarrier& state = Find(kName, barrier);
  const unsigned thread = CurrentThread();
  const auto [seen, is_first] = state.seen.try_emplace(thread, -2);
  const bool is_odd = parity == 1;
  const auto has_parity = [&](int64_t phase) { return (phase % 2 != 0) == is_odd; };
  // The phase that is meant: one waited for before, if it is still the latest, or the next.
  int64_t meant = seen->second;
  if (!(has_parity(meant) && meant == state.phase - 1)) {
    do ++meant;
    while (!has_parity(meant));
  }
  if (meant == state.phase) {
    state.waiting.push_back(thread);
    Park("mbarrier", PlaceOf(barrier));
  }
  if (meant != state.phase - 1) {
    Refuse(
        fmt::format("{}: mbarrier {}: thread {} waits for phase {}, but phase {} is complete, "
                    "too",
                    kName, PlaceOf(barrier), thread, meant, state.phase - 1));
  }
  state.seen[thread] = meant;
}

void CopyBulk(void* shared, const void* global, uint32_t bytes, uint64_t* barrier) {
  constexpr const char* kName = "cp.async.bulk";
  CheckAligned("cp.async.bulk to shared memory", shared, 16);
  CheckAligned("cp.async.bulk from global memory", global, 16);
  if (bytes == 0 || bytes % 16 != 0) {
    Refuse(fmt::format("{}: expected a multiple of 16 bytes, found {}", kName, bytes));
  }
  Mbarrier& state = Find(kName, barrier);
  std::memset(shared, kNaNByte, bytes);
  NoteCopyStarted(shared, bytes);
  state.bulk_copies.push_back({shared, global, bytes});
  state.bytes -= bytes;
  CompleteWhenAllIsThere(state);
}

void* SamePlaceIn(unsigned rank, const void* shared) {
  if (rank >= CurrentKernel().cluster) {
    Refuse(
        fmt::format("shared memory of block {} of a cluster of {}", rank, CurrentKernel().cluster));
  }
  if (HasEnded(rank)) {
    Refuse(fmt::format("shared memory of block {} of the cluster, which has ended", rank));
  }
  const auto place = static_cast<const std::byte*>(shared) - DynamicSharedMemory();
  return SharedMemoryOf(rank * BlockThreads()) + place;
}

void MbarrierArriveAt(uint64_t* barrier, unsigned rank) {
  constexpr const char* kName = "mbarrier.arrive at another block";
  auto* there = static_cast<uint64_t*>(SamePlaceIn(rank, barrier));
  Arrive(kName, there, Find(kName, there));
}

void StartPieces(const char* operation, const std::vector<BulkPiece>& pieces, uint64_t* barrier) {
  Mbarrier& state = Find(operation, barrier);
  for (const BulkPiece& piece : pieces) {
    std::memset(piece.to, kNaNByte, 16);
    NoteCopyStarted(piece.to, 16);
    state.bulk_copies.push_back({piece.to, piece.from, 16});
  }
  state.bytes -= static_cast<int64_t>(16 * pieces.size());
  CompleteWhenAllIsThere(state);
}

}  // namespace tamias::cuda_emulator
