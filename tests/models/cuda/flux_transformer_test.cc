// The FLUX.1 transformer on a GPU against the same on the CPU, with weights that are equal to the
// bit: what differs is that activations have 16 bits there. A rounding costs 2^-9 (bf16) or 2^-12
// (f16) of an element in the mean, and some fifteen lie one behind another in these three blocks.
#include "models/transformers/flux_transformer.h"

#include "tamias/sparsity/delta_mlp.h"
#include "tamias/sparsity/sparse_session.h"
#include "tests/support/flux_case.h"

namespace tamias {
namespace {

class CudaFluxTransformer : public CudaTest {};

// The relative L2 distance of the two predictions without sparsity.
double DenseError(FluxCase& flux) {
  const auto session = SparseSession::Dense(2);
  const Tensor expected = flux.OnCpu(session->invocation(0), 0);
  const double error = RelativeL2(flux.OnGpu(session->invocation(1), 0), expected);
  ::testing::Test::RecordProperty("error", std::to_string(error));
  return error;
}

TEST_F(CudaFluxTransformer, DenseMatchesTheCpuInBFloat16) {
  FluxCase flux(DType::kBF16);
  EXPECT_LT(DenseError(flux), 7e-3);
}

TEST_F(CudaFluxTransformer, DenseMatchesTheCpuInFloat16) {
  FluxCase flux(DType::kF16);
  EXPECT_EQ(flux.gpu.activation_dtype(), DType::kF16);
  EXPECT_LT(DenseError(flux), 1e-3);
}

TEST_F(CudaFluxTransformer, Float32WeightsAreRoundedToBFloat16) {
  FluxCase flux(DType::kF32);
  EXPECT_EQ(flux.gpu.activation_dtype(), DType::kBF16);
  EXPECT_LT(DenseError(flux), 1.5e-2);
}

TEST_F(CudaFluxTransformer, TakesWhatADryRunTakes) {
  FluxCase flux(DType::kBF16);
  const auto session = SparseSession::Dense();
  flux.OnGpu(session->invocation(0), 0);
  ExpectPlanned(flux.PlannedBytes(SparsityConfig::Dense()), flux.gpu,
                flux.gpu.workspace().peak_bytes());
}

}  // namespace
}  // namespace tamias
