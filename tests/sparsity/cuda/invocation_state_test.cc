// State that takes turns on a GPU: its turn ends where what is computed with it fails, too.
#include "sparsity/invocation_state.h"

#include <algorithm>
#include <chrono>
#include <future>
#include <memory>
#include <vector>

#include "base/check.h"
#include "base/offloaded_parts.h"
#include "tests/support/device_test.h"

namespace tamias {
namespace {

class CudaStateTurn : public CudaTest {};

TEST_F(CudaStateTurn, EndsWhereTheWorkFails) {
  constexpr size_t kBytes = 256;
  const size_t next = OffloadedParts::kSlots;  // of those in the first part's slot
  const auto parts =
      std::make_shared<OffloadedParts>(kPlacement.device, std::vector<size_t>(next + 1, kBytes));
  for (size_t part = 0; part <= next; ++part) {
    std::fill_n(parts->host_memory(part), kBytes, std::byte{0});
  }
  Context context(kPlacement);
  const StatePart first(parts, 0);
  EXPECT_EQ(ErrorOf([&] {
              const StateTurn turn(context, first, /*is_changed=*/true);
              Fail(ErrorCode::kInternal, "failed");
            }),
            "failed");
  std::future<void> turn = std::async(std::launch::async, [&] {
    parts->Acquire(context.stream(), next);
    parts->Release(context.stream(), next, /*is_changed=*/false);
  });
  const bool has_come = turn.wait_for(std::chrono::seconds(20)) == std::future_status::ready;
  EXPECT_TRUE(has_come);
  if (!has_come) parts->Release(context.stream(), 0, /*is_changed=*/false);
  turn.get();
  context.Synchronize();
}

}  // namespace
}  // namespace tamias
