#include "ops/top_k.h"

#include "ops/mask.h"
#include "tamias/error.h"
#include "tests/support/device_operand.h"
#include "tests/support/top_k_scores.h"

namespace tamias {
namespace {

class CudaTopK : public CudaTest {};

// Bits that are set before stay set.
Tensor SomeBits(uint64_t seed, int64_t rows, int64_t n) {
  Context context(1);
  Tensor mask = Tensor::Zeros({rows, MaskBytes(n)}, DType::kU8);
  reference::RandomMask(context, 0.1, seed, mask, n);
  return mask;
}

TEST_F(CudaTopK, GivesTheBitsOfTheReference) {
  cuda::Stream stream;
  Context context(1);
  for (uint64_t seed = 0; seed < 24; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    const int64_t rows = random.Integer(1, 3), n = random.Integer(1, seed % 8 == 0 ? 9000 : 900);
    const int64_t k = seed % 5 == 0 ? n : random.Integer(0, n + 1);
    const Tensor scores = TopKScores(random, rows, n + 3);
    const Tensor on_device = ToDevice(stream, scores);
    Tensor expected = SomeBits(seed, rows, n);
    Tensor mask = ToDevice(stream, expected);
    reference::TopKMask(context, scores.view().Slice(1, 1, n + 1), k, expected);
    cuda::TopKMask(stream, on_device.view().Slice(1, 1, n + 1), k, mask);
    EXPECT_TRUE(SameBytes(ToHost(stream, mask), expected));
  }
}

TEST_F(CudaTopK, TheApproximationGivesTheBitsOfTheReference) {
  cuda::Stream stream;
  Context context(1);
  for (uint64_t seed = 0; seed < 24; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    const int64_t rows = random.Integer(1, 3), n = random.Integer(1, seed % 8 == 0 ? 12288 : 900);
    const int64_t k = random.Integer(0, n + 1), sample_size = random.Integer(1, 1024);
    const Tensor scores = TopKScores(random, rows, n);
    const Tensor on_device = ToDevice(stream, scores);
    Tensor expected = SomeBits(seed, rows, n);
    Tensor mask = ToDevice(stream, expected);
    reference::ApproximateTopKMask(context, scores.view(), k, sample_size, seed, expected);
    cuda::ApproximateTopKMask(stream, on_device.view(), k, sample_size, seed, mask);
    EXPECT_TRUE(SameBytes(ToHost(stream, mask), expected));
  }
}

TEST_F(CudaTopK, RefusesMemoryOfTheHostAndWrongArguments) {
  Context device(kPlacement, 1);
  cuda::Stream& stream = device.stream();
  const Tensor scores = ToDevice(stream, Tensor::Zeros({2, 16}, DType::kF32));
  Tensor mask = ToDevice(stream, Tensor::Zeros({2, 2}, DType::kU8));
  Tensor of_host = Tensor::Zeros({2, 2}, DType::kU8);
  EXPECT_THROW(TopKMask(device, scores.view(), 1, of_host), Error);
  EXPECT_THROW(TopKMask(device, scores.view(), -1, mask), Error);
  EXPECT_THROW(ApproximateTopKMask(device, scores.view(), 1, 0, 1, mask), Error);
}

}  // namespace
}  // namespace tamias
