// Parts that take turns in a GPU's memory: what a kernel sees of them is theirs, whatever the order
// of copies and kernels that the queues allow.
#include "base/offloaded_parts.h"

#include <optional>
#include <thread>

#include "tamias/context.h"
#include "tamias/ops/elementwise.h"
#include "tests/support/device_test.h"
#ifdef TAMIAS_CUDA_EMULATION
#include "tests/cuda_emulator/streams.h"
#endif

namespace tamias {
namespace {

class CudaOffloadedParts : public CudaTest {
 protected:
  static constexpr int64_t kElements = 64;

  // Parts of growing sizes, filled with their number.
  static std::vector<size_t> Sizes(size_t count) {
    std::vector<size_t> bytes;
    for (size_t part = 0; part < count; ++part) {
      bytes.push_back(sizeof(float) * static_cast<size_t>(kElements) * (1 + part % 2));
    }
    return bytes;
  }
  static void Fill(OffloadedParts& parts, size_t count) {
    for (size_t part = 0; part < count; ++part) {
      std::fill_n(reinterpret_cast<float*>(parts.host_memory(part)), Sizes(count)[part] / 4,
                  static_cast<float>(part));
    }
  }
  static TensorView View(const OffloadedParts& parts, size_t part) {
    return TensorView(parts.device_memory(part), DType::kF32, {kElements}, kPlacement.device);
  }

  // sums[part] += the part, and the part += 1 where it is changed.
  static void Use(Context& context, OffloadedParts& parts, size_t part, bool changes,
                  const TensorView& sums) {
    parts.Acquire(context.stream(), part);
    const TensorView view = View(parts, part);
    const TensorView sum = sums.Select(0, static_cast<int64_t>(part));
    Add(context, sum, view, sum);
    if (changes) ScaleShift(context, view, 1, 1, view);
    parts.Release(context.stream(), part, changes);
  }
};

TEST_F(CudaOffloadedParts, KeepTheirContentsWhileTheyTakeTurns) {
  for (const size_t count : {size_t{1}, size_t{2}, size_t{3}, size_t{4}, size_t{7}}) {
    for (uint64_t seed = 0; seed < 20; ++seed) {
      SCOPED_TRACE(::testing::Message() << count << " parts, seed " << seed);
#ifdef TAMIAS_CUDA_EMULATION
      const cuda_emulator::ShuffledStreams shuffled(seed);
#endif
      Context context(kPlacement, 1);
      OffloadedParts parts(kPlacement.device, Sizes(count));
      Fill(parts, count);
      Random random(seed);
      const auto n = static_cast<int64_t>(count);
      Tensor sums = ToDevice(context.stream(), Tensor::Zeros({n, kElements}, DType::kF32).view());
      std::vector<float> expected(count, 0), value(count);
      for (size_t part = 0; part < count; ++part) value[part] = static_cast<float>(part);
      for (int round = 0; round < 4; ++round) {
        for (size_t i = 0; i < count; ++i) {
          // In their order on most rounds, now and then in any.
          const size_t part = round == 2 ? static_cast<size_t>(random.Integer(0, n - 1)) : i;
          const bool changes = random.Coin();
          Use(context, parts, part, changes, sums);
          expected[part] += value[part];
          if (changes) value[part] += 1;
        }
      }
      const Tensor found = ToHost(context.stream(), sums.view());
      for (int64_t i = 0; i < found.NumElements(); ++i) {
        ASSERT_EQ(found.data<float>()[i], expected[static_cast<size_t>(i / kElements)]) << i;
      }
    }
  }
}

TEST_F(CudaOffloadedParts, LeaveTheirContentsInPinnedMemory) {
  constexpr size_t kParts = 4;
  std::shared_ptr<const PinnedParts> host;
  {
    OffloadedParts parts(kPlacement.device, Sizes(kParts));
    Fill(parts, kParts);
    host = parts.host();
  }
  EXPECT_EQ(host->count(), kParts);
  EXPECT_EQ(host->bytes(), Sizes(2)[0] * 2 + Sizes(2)[1] * 2);
  OffloadedParts parts(kPlacement.device, host);
  Context context(kPlacement, 1);
  Tensor sums = ToDevice(context.stream(), Tensor::Zeros({kParts, kElements}, DType::kF32).view());
  for (size_t part = 0; part < kParts; ++part) Use(context, parts, part, false, sums);
  const Tensor found = ToHost(context.stream(), sums.view());
  for (int64_t i = 0; i < found.NumElements(); ++i) {
    ASSERT_EQ(found.data<float>()[i], static_cast<float>(i / kElements)) << i;
  }
}

TEST_F(CudaOffloadedParts, TakeThreeSlots) {
  EXPECT_EQ(OffloadedParts::DeviceBytes({}), 0u);
  EXPECT_EQ(OffloadedParts::DeviceBytes({100}), 100u);
  EXPECT_EQ(OffloadedParts::DeviceBytes({100, 200, 50, 300, 10}), 300u + 200u + 50u);
}

TEST_F(CudaOffloadedParts, ServeSeveralThreads) {
  constexpr size_t kParts = 5;
  OffloadedParts parts(kPlacement.device, Sizes(kParts));
  Fill(parts, kParts);
  const auto sum = [&] {
    Context context(kPlacement, 1);
    Tensor sums =
        ToDevice(context.stream(), Tensor::Zeros({kParts, kElements}, DType::kF32).view());
    for (int round = 0; round < 20; ++round) {
      for (size_t part = 0; part < kParts; ++part) Use(context, parts, part, false, sums);
    }
    const Tensor found = ToHost(context.stream(), sums.view());
    for (int64_t i = 0; i < found.NumElements(); ++i) {
      ASSERT_EQ(found.data<float>()[i], static_cast<float>(20 * (i / kElements)));
    }
  };
  std::thread other(sum);
  sum();
  other.join();
}

}  // namespace
}  // namespace tamias
