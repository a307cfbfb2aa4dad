// How much the host asks of a GPU for one step of a transformer: kernels, products of cuBLASLt,
// copies and fills, and how often it waits. Small models are bound by it.
#include <string>

#include "tamias/sparsity/sparse_session.h"
#include "tests/cuda_emulator/streams.h"
#include "tests/support/flux_case.h"

namespace tamias {
namespace {

using cuda_emulator::LaunchCounter;

// Records the counts of a step in the test's XML, by name, and prints them.
void Report(const char* step, const LaunchCounter& counter) {
  std::string text;
  for (const auto& [name, count] : counter.by_name()) text += fmt::format(", {} {}", count, name);
  fmt::print("{}: {} launches, {} waits{}\n", step, counter.total(), counter.waits(), text);
}

// The steps of one double-stream and two single-stream blocks with profile flux-1-dev's kinds of
// work: 0 full, 1 chooses columns, 2 chooses neurons, 3 uses both.
TEST(CudaLaunches, OfAStepOfFlux) {
  FluxCase flux(DType::kBF16);
  const auto dense = SparseSession::Dense();
  {
    const LaunchCounter counter;
    flux.OnGpu(dense->invocation(0), 0);
    Report("dense", counter);
  }
  SparsityConfig config = EveryKindOfStep();
  config.step_caching.is_enabled = false;
  config.attn.should_compress_indices = false;
  config.attn.recompute_mask = false;
  SparseSession session(flux.gpu, config, {flux.Geometry()});
  for (int step = 0; step < 5; ++step) {
    session.BeginStep(step);
    const LaunchCounter counter;
    flux.OnGpu(session.invocation(0), step);
    session.EndStep();
    Report(fmt::format("step {}", step).c_str(), counter);
  }
}

}  // namespace
}  // namespace tamias
