// How much the host asks of a GPU for one step of a transformer: kernels, products of cuBLASLt,
// copies and fills, and how often it waits. Small models are bound by it. The numbers are upper
// bounds: docs/kernels-cuda.md tells what they were made of.
#include <string>

#include "tamias/sparsity/sparse_session.h"
#include "tests/cuda_emulator/streams.h"
#include "tests/support/flux_case.h"

namespace tamias {
namespace {

using cuda_emulator::LaunchCounter;

// Of one call of the model and the end of its step; prints what was asked for.
class CountedStep {
 public:
  void Run(FluxCase& flux, SparseSession& session, int step, const std::string& name) {
    const LaunchCounter counter;
    flux.OnGpu(session.invocation(0), step);
    session.EndStep();
    launches = counter.total();
    waits = counter.waits();
    std::string text;
    for (const auto& [kernel, count] : counter.by_name()) {
      text += fmt::format(", {} {}", count, kernel);
    }
    fmt::print("{}: {} launches, {} waits{}\n", name, launches, waits, text);
  }
  int64_t launches = 0, waits = 0;
};

// The latents come up and the prediction goes down, each with a wait, whatever the model does.
constexpr int64_t kWaits = 2;

TEST(CudaLaunches, OfADenseStepOfFlux) {
  FluxCase flux(DType::kBF16);
  const auto session = SparseSession::Dense();
  CountedStep dense;
  dense.Run(flux, *session, 0, "dense");
  EXPECT_LE(dense.launches, 63);
  EXPECT_EQ(dense.waits, kWaits);
}

// One double-stream and two single-stream blocks, deltas in all of them.
TEST(CudaLaunches, OfAcceleratedStepsOfFlux) {
  FluxCase flux(DType::kBF16);
  SparsityConfig config = EveryKindOfStep();
  config.step_caching.is_enabled = false;
  config.attn.should_compress_indices = false;
  config.attn.recompute_mask = false;
  SparseSession session(flux.gpu, config, {flux.Geometry()});
  struct Kind {
    std::string name;
    int64_t most_launches;
  };
  const Kind kinds[] = {{"full, the first", 78},
                        {"full attention that selects, sparse MLP", 126},
                        {"sparse, new neurons", 93},
                        {"sparse, new neurons", 93},
                        {"full, drift measured", 129}};
  int step = 0;
  for (const auto& [name, most_launches] : kinds) {
    SCOPED_TRACE(name);
    session.BeginStep(step);
    CountedStep counted;
    counted.Run(flux, session, step++, name);
    EXPECT_LE(counted.launches, most_launches);
    EXPECT_EQ(counted.waits, kWaits);
  }
}

}  // namespace
}  // namespace tamias
