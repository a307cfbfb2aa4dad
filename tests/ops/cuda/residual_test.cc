#include "ops/residual.h"

#include <vector>

#include "tamias/error.h"
#include "tests/support/device_operand.h"

namespace tamias {
namespace {

class CudaResidualWithoutNorm : public CudaTest {};

TEST_F(CudaResidualWithoutNorm, MatchesReferenceOverRandomShapes) {
  cuda::Stream stream;
  Context context(1);
  for (uint64_t seed = 0; seed < 25; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    const int64_t columns = 8 * random.Integer(1, random.Coin() ? 20 : 200);
    const Shape shape = {random.Integer(1, 3), random.Integer(1, 20), columns};
    const DeviceOperand x = MakeOperand(stream, random, shape, RandomFloatType(random));
    const DeviceOperand y = MakeOperand(stream, random, shape, RandomFloatType(random));
    const DeviceOperand gate =
        MakeOperand(stream, random, {shape[0], columns}, RandomFloatType(random));
    const ResidualRows rows{x.device, gate.device, y.device, {}, {}, {}};
    cuda::ResidualNorm(stream, {&rows, 1}, {});
    reference::ResidualNorm(context, {x.host, gate.host, y.host, {}, {}, {}}, {});
    EXPECT_LT(x.Error(stream), Tolerance(x.device.dtype()));
  }
}

class CudaResidualNorm : public CudaTest {};

// The operands of a stream, and how they are seen on the device and on the host.
struct StreamCase {
  DeviceOperand x, gate, branch, gain, offset, output;
  bool adds, norms, has_gain, has_offset, in_place;

  template <typename ViewOf>
  ResidualRows Rows(const ViewOf& view_of) const {
    const TensorView none;
    const TensorView& to = in_place ? view_of(branch) : view_of(output);
    return {.x = view_of(x),
            .gate = adds ? view_of(gate) : none,
            .branch = adds ? view_of(branch) : none,
            .gain = has_gain ? view_of(gain) : none,
            .offset = has_offset ? view_of(offset) : none,
            .output = norms ? to : none};
  }
};

TEST_F(CudaResidualNorm, MatchesReferenceForAnyNumberOfStreams) {
  cuda::Stream stream;
  Context context(1);
  for (uint64_t seed = 0; seed < 40; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    const int64_t wide[] = {4096, 4104, 8 * random.Integer(520, 1100)};
    const ResidualNormOptions options{.norm = random.Coin() ? NormKind::kLayer : NormKind::kRms,
                                      .is_modulation = random.Coin(),
                                      .norms_branch = random.Coin()};
    const auto count = static_cast<size_t>(random.Integer(1, 6));
    std::vector<StreamCase> cases;
    for (size_t i = 0; i < count; ++i) {
      const int64_t columns =
          seed % 10 == 0 ? wide[random.Integer(0, 2)] : 8 * random.Integer(1, 60);
      const Shape shape = {random.Integer(1, 3), random.Integer(0, 5), columns};
      const Shape per_item = {shape[0], columns};
      const Shape coefficients = random.Coin() ? per_item : Shape{columns};
      const auto make = [&](const Shape& of) {
        return MakeOperand(stream, random, of, RandomFloatType(random));
      };
      cases.push_back({.x = make(shape),
                       .gate = make(per_item),
                       .branch = make(shape),
                       .gain = make(coefficients),
                       .offset = make(coefficients),
                       .output = make(shape),
                       .adds = random.Coin(),
                       .norms = random.Coin(),
                       .has_gain = options.is_modulation || random.Coin(),
                       .has_offset = options.norm == NormKind::kLayer && random.Coin(),
                       .in_place = random.Coin()});
    }
    std::vector<ResidualRows> rows;
    for (const StreamCase& one : cases) {
      rows.push_back(one.Rows([](const DeviceOperand& o) { return o.device; }));
    }
    cuda::ResidualNorm(stream, rows, options);
    for (size_t i = 0; i < count; ++i) {
      const StreamCase& one = cases[i];
      reference::ResidualNorm(context, one.Rows([](const DeviceOperand& o) { return o.host; }),
                              options);
      // The sum has one rounding, which the norm of few columns can make larger.
      EXPECT_LT(one.x.Error(stream), 2 * Tolerance(one.x.device.dtype())) << i;
      const DeviceOperand& output = one.in_place ? one.branch : one.output;
      if (one.norms) {
        EXPECT_LT(output.Error(stream), 4 * Tolerance(DType::kBF16)) << i;
      }
    }
  }
}

TEST_F(CudaResidualNorm, RefusesRowsThatItsThreadsCannotHold) {
  cuda::Stream stream;
  Tensor x = ToDevice(stream, Tensor::Zeros({1, 1, 32'776}, DType::kF16).view());
  const ResidualRows rows{x, {}, {}, {}, {}, x};
  EXPECT_THROW(cuda::ResidualNorm(stream, {&rows, 1}, {}), Error);
}

TEST_F(CudaResidualWithoutNorm, RefusesWrongShapes) {
  Context device(kPlacement, 1);
  cuda::Stream& stream = device.stream();
  Tensor x = ToDevice(stream, Tensor::Zeros({2, 3, 16}, DType::kF32).view());
  const Tensor gate = ToDevice(stream, Tensor::Zeros({3, 16}, DType::kF32).view());
  const ResidualRows rows{x, gate, x, {}, {}, {}};
  EXPECT_THROW(ResidualNorm(device, {&rows, 1}, {}), Error);
}

}  // namespace
}  // namespace tamias
