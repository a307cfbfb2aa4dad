#include "ops/mask.h"

#include "tamias/error.h"
#include "tests/support/device_operand.h"

namespace tamias {
namespace {

class CudaMask : public CudaTest {};

TEST_F(CudaMask, RandomBitsCountsAndListsAreThoseOfTheReference) {
  cuda::Stream stream;
  Context context(1);
  for (uint64_t seed = 0; seed < 20; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    const int64_t rows = random.Integer(1, 9), n = random.Integer(1, seed % 5 == 0 ? 20000 : 700);
    const double probability = static_cast<double>(random.Integer(0, 10)) / 10;
    Tensor expected_mask = Tensor::Zeros({rows, MaskBytes(n)}, DType::kU8);
    reference::RandomMask(context, 0.01, seed + 1, expected_mask, n);
    Tensor mask = ToDevice(stream, expected_mask);
    reference::RandomMask(context, probability, seed, expected_mask, n);
    cuda::RandomMask(stream, probability, seed, mask, n);
    EXPECT_TRUE(SameBytes(ToHost(stream, mask), expected_mask));

    Tensor expected_counts({rows}, DType::kI32);
    Tensor counts = ToDevice(stream, Tensor::Zeros({rows}, DType::kI32));
    reference::CountMask(context, expected_mask.view(), expected_counts);
    cuda::CountMask(stream, mask.view(), counts);
    EXPECT_TRUE(SameBytes(ToHost(stream, counts), expected_counts));

    int64_t capacity = 0;  // exactly what the fullest row needs: nothing may be written past it
    for (int64_t r = 0; r < rows; ++r) {
      capacity = std::max<int64_t>(capacity, expected_counts.data<int32_t>()[r]);
    }
    Tensor expected = Tensor::Zeros({rows, capacity}, DType::kI32);
    Tensor indices = ToDevice(stream, expected);
    Tensor overflow = ToDevice(stream, Tensor::Zeros({1}, DType::kI32));
    reference::MaskToIndices(context, expected_mask.view(), n, expected, expected_counts);
    cuda::MaskToIndices(stream, mask.view(), n, indices, counts, overflow);
    EXPECT_TRUE(SameBytes(ToHost(stream, indices), expected));
    EXPECT_TRUE(SameBytes(ToHost(stream, counts), expected_counts));
    EXPECT_EQ(ToHost(stream, overflow).data<int32_t>()[0], 0);
  }
}

TEST_F(CudaMask, OrTakesTheFirstBitsOfRowsThatRepeat) {
  cuda::Stream stream;
  Context context(1);
  for (uint64_t seed = 0; seed < 20; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    const int64_t shared = random.Integer(1, 3), rows = shared * random.Integer(1, 4);
    const int64_t n = random.Integer(1, seed % 5 == 0 ? 20000 : 700), limit = random.Integer(0, n);
    Tensor source = Tensor::Zeros({shared, MaskBytes(n)}, DType::kU8);
    Tensor expected = Tensor::Zeros({rows, MaskBytes(n)}, DType::kU8);
    reference::RandomMask(context, 0.5, seed, source, n);
    reference::RandomMask(context, 0.1, seed + 1, expected, n);
    const Tensor device_source = ToDevice(stream, source);
    Tensor mask = ToDevice(stream, expected);
    reference::OrMask(context, source.view(), limit, expected);
    cuda::OrMask(stream, device_source.view(), limit, mask);
    EXPECT_TRUE(SameBytes(ToHost(stream, mask), expected));
  }
}

TEST_F(CudaMask, RangesSetExactlyTheirBits) {
  cuda::Stream stream;
  for (int64_t begin = 0; begin <= 20; ++begin) {
    for (int64_t end = begin; end <= 21; ++end) {
      Tensor expected = Tensor::Zeros({2, MaskBytes(21)}, DType::kU8);
      Tensor mask = ToDevice(stream, expected);
      SetMaskRange(expected, 1, begin, end);
      cuda::SetMaskRange(stream, mask, 1, begin, end);
      ASSERT_TRUE(SameBytes(ToHost(stream, mask), expected)) << begin << " to " << end;
    }
  }
}

TEST_F(CudaMask, ACapacityThatIsTooSmallCutsTheListAndShowsInTheFlag) {
  cuda::Stream stream;
  Tensor host_mask = Tensor::Zeros({3, MaskBytes(100)}, DType::kU8);
  SetMaskRange(host_mask, 1, 0, 5);
  SetMaskRange(host_mask, 2, 30, 41);
  const Tensor mask = ToDevice(stream, host_mask);
  Tensor indices = ToDevice(stream, Tensor::Zeros({3, 9}, DType::kI32));
  Tensor counts = ToDevice(stream, Tensor::Zeros({3}, DType::kI32));
  Tensor overflow = ToDevice(stream, Tensor::Zeros({1}, DType::kI32));
  cuda::MaskToIndices(stream, mask.view(), 100, indices, counts, overflow);
  const Tensor lists = ToHost(stream, indices), lengths = ToHost(stream, counts);
  EXPECT_EQ(ToHost(stream, overflow).data<int32_t>()[0], 11);
  EXPECT_EQ(lengths.data<int32_t>()[0], 0);
  EXPECT_EQ(lengths.data<int32_t>()[1], 5);
  EXPECT_EQ(lengths.data<int32_t>()[2], 9);
  for (int32_t j = 0; j < 9; ++j) EXPECT_EQ(lists.data<int32_t>()[18 + j], 30 + j);
}

TEST_F(CudaMask, RefusesWrongShapesAndProbabilities) {
  Context device(kPlacement, 1);
  cuda::Stream& stream = device.stream();
  Tensor mask = ToDevice(stream, Tensor::Zeros({2, 2}, DType::kU8));
  EXPECT_THROW(RandomMask(device, 0.5, 1, mask, 17), Error);
  EXPECT_THROW(RandomMask(device, 1.5, 1, mask, 16), Error);
  EXPECT_THROW(RandomMask(device, NAN, 1, mask, 16), Error);
  EXPECT_THROW(cuda::SetMaskRange(stream, mask, 2, 0, 1), Error);
  EXPECT_THROW(cuda::SetMaskRange(stream, mask, 0, 5, 17), Error);
}

}  // namespace
}  // namespace tamias
