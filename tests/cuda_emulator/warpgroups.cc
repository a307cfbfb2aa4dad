// wgmma and setmaxnreg: see the header. Descriptors and layouts are those of the PTX manual,
// "Asynchronous Warpgroup Level Matrix Instructions", for the 128-byte swizzle alone.
#include "tests/cuda_emulator/warpgroups.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <deque>
#include <limits>
#include <map>
#include <utility>
#include <vector>

#include "base/check.h"
#include "tamias/dtype.h"
#include "tests/cuda_emulator/async_proxy.h"
#include "tests/cuda_emulator/block.h"

namespace tamias::cuda_emulator {
namespace {

constexpr size_t kRows = 16;   // of a warp
constexpr size_t kDepth = 16;  // of the contraction, in 16 bits: of e4m3 as many pairs
constexpr size_t kMostDepth = 2 * kDepth;
constexpr size_t kLanes = 32, kWarps = 4;
constexpr size_t kMostColumns = 256;
constexpr size_t kPiece = 8;  // elements in 16 bytes
constexpr int kMostRegisters = 255, kRegistersOfBlock = 65536, kRegisterStep = 8;
constexpr int64_t kNever = std::numeric_limits<int64_t>::max();

// The sums of a warp while products are adding to them.
struct Sums {
  std::array<float*, kLanes> lanes;
  std::vector<float> values;  // [kRows][columns]
  int columns = 0;
  int products = 0;  // in flight

  float& At(size_t lane, size_t i) {
    const size_t row = lane / 4 + i % 4 / 2 * 8, column = i / 4 * 8 + lane % 4 * 2 + i % 2;
    return values[row * static_cast<size_t>(columns) + column];
  }
};

struct Started {
  WarpgroupProduct product;
  std::array<std::array<uint32_t, 4>, kLanes> a;
  Sums* sums;
  int64_t group;
  int64_t due;
  bool is_done = false;
};

enum class Haste { kAtOnce, kAtTheWait, kBetween };

struct Warp {
  std::deque<Started> products;  // in flight, in order
  std::map<float*, Sums> sums;   // by the first lane's
  int64_t group = 0;             // that is open
  Haste haste = Haste::kAtOnce;
  bool fenced_since_wait = false, fenced_since_commit = false;
  size_t started = 0;
  std::vector<int> registers;  // as setmaxnreg has set them
};

struct Warpgroups {
  std::vector<Warp> warps;
  std::vector<std::vector<WarpgroupProduct>> products;  // by warpgroup, of the warp that leads
  int64_t next_due = kNever;
  std::vector<int64_t> free_registers;  // by block
  int first_registers = 0;
  std::vector<std::pair<unsigned, int64_t>> waiting;  // threads and what they need
};

thread_local Warpgroups state;

Warp& OfThisWarp() { return state.warps[CurrentThread() / kLanes]; }

// ---- operands in shared memory ------------------------------------------------------------------
struct Operand {
  size_t address, leading, stride;
  bool across;

  // Of the piece of eight elements with this line (a row of A, a column of B) and place along the
  // contraction.
  size_t Offset(size_t line, size_t depth) const {
    const size_t row = across ? depth : line, column = across ? line : depth;
    const size_t place = address + column / 64 * leading + row / 8 * stride + row % 8 * 128 +
                         column % 64 * sizeof(uint16_t);
    return place ^ (place / 128 % 8 * 16);
  }
};

Operand OperandOf(uint64_t descriptor, bool across) {
  const auto field = [&](int bit) { return static_cast<size_t>(descriptor >> bit & 0x3FFF) * 16; };
  return {field(0), field(16), field(32), across};
}

void CheckDescriptor(const char* name, uint64_t descriptor, bool across) {
  if (descriptor >> 62 != 1 || (descriptor >> 49 & 7) != 0) {
    Refuse(fmt::format("wgmma: {}: descriptor {:#x}: expected the 128-byte swizzle", name,
                       descriptor));
  }
  const Operand operand = OperandOf(descriptor, across);
  // Rows from the first of eight on; across the contraction whole rows, else 16 elements of them.
  const size_t column = operand.address % 128, unit = across ? 128 : 32;
  if (operand.address % 1024 != column || column % unit != 0) {
    Refuse(fmt::format("wgmma: {}: byte {} of shared memory: expected a multiple of 1024{}", name,
                       operand.address, across ? "" : ", and 0, 32, 64 or 96 behind it"));
  }
}

// lines [first, first + count) of an operand as out[k][line - first].
template <typename Use>
void ForPieces(const Operand& operand, size_t first, size_t count, const Use& use) {
  if (operand.across) {
    for (size_t k = 0; k < kDepth; ++k) {
      for (size_t line = 0; line < count; line += kPiece) {
        use(operand.Offset(first + line, k), line, k);
      }
    }
  } else {
    for (size_t line = 0; line < count; ++line) {
      for (size_t k = 0; k < kDepth; k += kPiece) use(operand.Offset(first + line, k), line, k);
    }
  }
}

void CheckOperand(const char* name, uint64_t descriptor, bool across, size_t first, size_t count,
                  unsigned first_thread) {
  CheckDescriptor(name, descriptor, across);
  const size_t bytes = CurrentKernel().shared_bytes;
  const std::string operation = fmt::format("wgmma: {}", name);
  ForPieces(OperandOf(descriptor, across), first, count, [&](size_t offset, size_t, size_t) {
    if (offset + 16 > bytes) {
      Refuse(
          fmt::format("{}: reads byte {} of {} bytes of shared memory", operation, offset, bytes));
    }
    CheckReadable(operation.c_str(), offset, first_thread);
  });
}

const float* Halves() {
  static const std::vector<float> values = [] {
    std::vector<float> all(65536);
    for (uint32_t bits = 0; bits < 65536; ++bits) {
      all[bits] = ToFloat(Float16{static_cast<uint16_t>(bits)});
    }
    return all;
  }();
  return values.data();
}

float ValueOf(DType type, uint16_t bits) {
  return type == DType::kBF16 ? ToFloat(BFloat16{bits}) : Halves()[bits];
}

void ReadOperand(const std::byte* shared, const WarpgroupProduct& product, const Operand& operand,
                 size_t first, size_t count, float (*out)[kMostColumns]) {
  ForPieces(operand, first, count, [&](size_t offset, size_t line, size_t k) {
    if (product.type == DType::kF8E4M3) {
      for (size_t i = 0; i < 2 * kPiece; ++i) {
        out[2 * k + i][line] = ToFloat(Float8E4M3{static_cast<uint8_t>(shared[offset + i])});
      }
      return;
    }
    uint16_t piece[kPiece];
    std::memcpy(piece, shared + offset, sizeof(piece));
    for (size_t i = 0; i < kPiece; ++i) {
      const float value = ValueOf(product.type, piece[i]);
      if (operand.across) {
        out[k][line + i] = value;
      } else {
        out[k + i][line] = value;
      }
    }
  });
}

void ReadRegisters(const Started& started, float (*out)[kMostColumns]) {
  for (size_t lane = 0; lane < kLanes; ++lane) {
    for (size_t r = 0; r < 4; ++r) {
      const uint32_t pair = started.a[lane][r];
      const size_t row = lane / 4 + r % 2 * 8, k = lane % 4 * 2 + r / 2 * 8;
      const DType type = started.product.type;
      out[k][row] = ValueOf(type, static_cast<uint16_t>(pair));
      out[k + 1][row] = ValueOf(type, static_cast<uint16_t>(pair >> 16));
    }
  }
}

void Multiply(Started& started, size_t warp) {
  const WarpgroupProduct& product = started.product;
  thread_local float a[kMostDepth][kMostColumns], b[kMostDepth][kMostColumns];
  const size_t depth = product.type == DType::kF8E4M3 ? kMostDepth : kDepth;
  const auto columns = static_cast<size_t>(product.columns);
  const std::byte* shared = SharedMemoryOf(static_cast<unsigned>(warp * kLanes));
  if (product.a_in_registers) {
    ReadRegisters(started, a);
  } else {
    ReadOperand(shared, product, OperandOf(product.a, product.a_across), warp % kWarps * kRows,
                kRows, a);
  }
  ReadOperand(shared, product, OperandOf(product.b, product.b_across), 0, columns, b);
  float* sums = started.sums->values.data();
  if (!product.accumulate) std::fill(sums, sums + kRows * columns, 0.0f);
  for (size_t i = 0; i < kRows; ++i) {
    for (size_t k = 0; k < depth; ++k) {
      const float left = a[k][i];
      const float* right = b[k];
      float* row = sums + i * columns;
      for (size_t j = 0; j < columns; ++j) row[j] += left * right[j];
    }
  }
  started.is_done = true;
}

// ---- starting and waiting -----------------------------------------------------------------------
struct StartFrame {
  const WarpgroupProduct* product;
  const uint32_t* a;
  float* d;
};

int64_t DrawDue(Haste haste) {
  constexpr uint64_t kLongest = 600;  // turns, about as many as a block has threads
  switch (haste) {
    case Haste::kAtOnce:
      return 0;
    case Haste::kAtTheWait:
      return kNever;
    default:
      return Turn() + static_cast<int64_t>(Draw(kLongest));
  }
}

// Four warps do the same one after another; the first to come says what.
void CompareWarps(Warp& warp, size_t number, const WarpgroupProduct& product) {
  if (ClusterThreads() < (number / kWarps + 1) * kWarps * kLanes) {
    Refuse(fmt::format("wgmma: warp {} is in no whole warpgroup: {} threads in a block", number,
                       BlockThreads()));
  }
  std::vector<WarpgroupProduct>& products = state.products[number / kWarps];
  if (warp.started == products.size()) products.push_back(product);
  if (!(products[warp.started] == product)) {
    Refuse(fmt::format("wgmma: product {} of warp {} is not that of its warpgroup's other warps",
                       warp.started, number));
  }
  ++warp.started;
}

Sums& SumsOf(Warp& warp, const WarpgroupProduct& product, const Frames& frames) {
  const auto d = [&](size_t lane) { return static_cast<StartFrame*>(frames[lane])->d; };
  const auto found = warp.sums.find(d(0));
  if (found != warp.sums.end()) {
    if (found->second.columns != product.columns) {
      Refuse(fmt::format("wgmma: {} columns are added to sums of {} in flight", product.columns,
                         found->second.columns));
    }
    return found->second;
  }
  if (!warp.fenced_since_wait) {
    Refuse("wgmma: no wgmma.fence since the sums may have been changed");
  }
  Sums& sums = warp.sums[d(0)];
  sums.columns = product.columns;
  const auto count = static_cast<size_t>(product.columns) / 2;
  sums.values.resize(kLanes * count);
  for (size_t lane = 0; lane < kLanes; ++lane) {
    sums.lanes[lane] = d(lane);
    for (size_t i = 0; i < count; ++i) {
      sums.At(lane, i) = d(lane)[i];
      d(lane)[i] = std::numeric_limits<float>::quiet_NaN();
    }
  }
  return sums;
}

void Start(const Frames& frames) {
  const size_t number = CurrentThread() / kLanes;
  Warp& warp = state.warps[number];
  const WarpgroupProduct& product = *static_cast<StartFrame*>(frames[0])->product;
  for (const void* frame : frames) {
    if (!(*static_cast<const StartFrame*>(frame)->product == product)) {
      Refuse(fmt::format("wgmma: the lanes of warp {} differ", number));
    }
  }
  CompareWarps(warp, number, product);
  if (product.type == DType::kF8E4M3 && (product.a_across || product.b_across)) {
    Refuse("wgmma: e4m3 lies along the contraction in both operands");
  }
  const auto first_thread = static_cast<unsigned>(number * kLanes);
  if (product.a_in_registers) {
    if (!warp.fenced_since_commit) {
      Refuse("wgmma: no wgmma.fence since A in registers may have been changed");
    }
  } else {
    CheckOperand("A", product.a, product.a_across, number % kWarps * kRows, kRows, first_thread);
  }
  CheckOperand("B", product.b, product.b_across, 0, static_cast<size_t>(product.columns),
               first_thread);
  Sums& sums = SumsOf(warp, product, frames);
  ++sums.products;
  if (warp.products.empty() || warp.products.back().group != warp.group) {
    warp.haste = static_cast<Haste>(Draw(3));
  }
  Started started{product, {}, &sums, warp.group, DrawDue(warp.haste)};
  if (product.a_in_registers) {
    for (size_t lane = 0; lane < kLanes; ++lane) {
      std::copy_n(static_cast<StartFrame*>(frames[lane])->a, 4, started.a[lane].begin());
    }
  }
  state.next_due = std::min(state.next_due, started.due);
  warp.products.push_back(started);
  ++LastLaunch().warpgroup_products;
}

void FinishFirst(Warp& warp, size_t number) {
  Started& first = warp.products.front();
  if (!first.is_done) Multiply(first, number);
  Sums& sums = *first.sums;
  warp.products.pop_front();
  if (--sums.products > 0) return;
  for (size_t lane = 0; lane < kLanes; ++lane) {
    for (size_t i = 0; i < static_cast<size_t>(sums.columns) / 2; ++i) {
      sums.lanes[lane][i] = sums.At(lane, i);
    }
  }
  warp.sums.erase(sums.lanes[0]);
}

void Wait(const Frames& frames) {
  const size_t number = CurrentThread() / kLanes;
  Warp& warp = state.warps[number];
  const int64_t end = warp.group - *static_cast<const int*>(frames[0]);
  while (!warp.products.empty() && warp.products.front().group < end) FinishFirst(warp, number);
  warp.fenced_since_wait = false;
}

// ---- registers ----------------------------------------------------------------------------------
int64_t& FreeRegisters(unsigned thread) { return state.free_registers[thread / BlockThreads()]; }

void LetGoOn() {
  auto& waiting = state.waiting;
  for (size_t i = 0; i < waiting.size();) {
    int64_t& free = FreeRegisters(waiting[i].first);
    if (waiting[i].second > free) {
      ++i;
      continue;
    }
    free -= waiting[i].second;
    Wake(waiting[i].first);
    waiting.erase(waiting.begin() + static_cast<ptrdiff_t>(i));
  }
}

}  // namespace

uint32_t SharedAddress(const void* shared) {
  const auto offset = static_cast<const std::byte*>(shared) - DynamicSharedMemory();
  if (offset < 0 || offset >= static_cast<ptrdiff_t>(CurrentKernel().shared_bytes)) {
    Refuse(fmt::format("{} is not in dynamic shared memory", shared));
  }
  return static_cast<uint32_t>(offset);
}

void StartProduct(const WarpgroupProduct& product, const uint32_t* a, float* d) {
  StartFrame frame{&product, a, d};
  Collect("wgmma", 0xFFFFFFFFu, &frame, &Start);
}

void WgmmaFence() {
  int nothing = 0;
  Collect("wgmma.fence", 0xFFFFFFFFu, &nothing, [](const Frames&) {
    Warp& warp = OfThisWarp();
    warp.fenced_since_wait = warp.fenced_since_commit = true;
  });
}

void WgmmaCommit() {
  int nothing = 0;
  Collect("wgmma.commit_group", 0xFFFFFFFFu, &nothing, [](const Frames&) {
    Warp& warp = OfThisWarp();
    ++warp.group;
    warp.fenced_since_commit = false;
  });
}

void WgmmaWait(int groups_left) { Collect("wgmma.wait_group", 0xFFFFFFFFu, &groups_left, &Wait); }

void SetRegisters(int registers, bool increases) {
  const char* name = increases ? "setmaxnreg.inc" : "setmaxnreg.dec";
  struct Frame {
    int registers, before;
  } frame{registers, 0};
  // By the warp as one: what it had, and what it has from now on.
  if (registers < 24 || registers > 256 || registers % kRegisterStep != 0) {
    Refuse(
        fmt::format("{}: expected 24 to 256 registers in steps of 8, found {}", name, registers));
  }
  Collect(name, 0xFFFFFFFFu, &frame, [](const Frames& frames) {
    Warp& own = OfThisWarp();
    const int before = own.registers.empty() ? state.first_registers : own.registers.back();
    for (void* lane : frames) static_cast<Frame*>(lane)->before = before;
    own.registers.push_back(static_cast<Frame*>(frames[0])->registers);
  });
  const int change = registers - frame.before;
  if (increases ? change < 0 : change > 0) {
    Refuse(fmt::format("{}: {} registers, warp {} has {}", name, registers,
                       CurrentThread() / kLanes, frame.before));
  }
  int64_t& free = FreeRegisters(CurrentThread());
  if (change <= free) {
    free -= change;
    LetGoOn();
  } else {
    state.waiting.emplace_back(CurrentThread(), change);
    Park(name, registers);
  }
}

void BeginWarpgroups() {
  const auto threads = static_cast<int>(BlockThreads());
  state = {};
  state.warps.resize((ClusterThreads() + kLanes - 1) / kLanes);
  state.products.resize(state.warps.size() / kWarps + 1);
  const int all = kRegistersOfBlock / threads / kRegisterStep * kRegisterStep;
  state.first_registers = std::min(kMostRegisters / kRegisterStep * kRegisterStep, all);
  state.free_registers.assign(CurrentKernel().cluster,
                              kRegistersOfBlock - int64_t{threads} * state.first_registers);
}

void MultiplyWhatIsDue() {
  if (Turn() < state.next_due) return;
  state.next_due = kNever;
  for (size_t number = 0; number < state.warps.size(); ++number) {
    for (Started& started : state.warps[number].products) {
      if (started.is_done) continue;
      if (started.due > Turn()) {
        state.next_due = std::min(state.next_due, started.due);
        break;  // later ones add to what this one does
      }
      Multiply(started, number);
    }
  }
}

void EndWarpgroups() {
  for (size_t number = 0; number < state.warps.size(); ++number) {
    const Warp& warp = state.warps[number];
    if (!warp.products.empty()) {
      Refuse(fmt::format("warp {} ended with {} products that it did not wait for", number,
                         warp.products.size()));
    }
    const Warp& first = state.warps[number / kWarps * kWarps];
    if (warp.started != first.started || warp.registers != first.registers) {
      Refuse(
          fmt::format("warp {} did not start the products and set the registers that the others "
                      "of its warpgroup did",
                      number));
    }
  }
}

}  // namespace tamias::cuda_emulator
