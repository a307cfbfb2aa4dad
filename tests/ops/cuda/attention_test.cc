#include "ops/attention.h"

#include <limits>

#include "tamias/error.h"
#include "tests/support/device_attention.h"
#include "tests/support/kernel_families.h"
#include "tests/support/operands.h"

namespace tamias {
namespace {

using ::testing::HasSubstr;

// Sums and exponentials are fp32; scores are a few units large.
constexpr float kLogSumExpTolerance = 1e-5f;
constexpr float kColumnSumTolerance = 5e-5f;

class CudaDenseAttention : public KernelFamilyTest {};
INSTANTIATE_TEST_SUITE_P(Kernels, CudaDenseAttention, ::testing::ValuesIn(KernelFamiliesHere()),
                         NameOfFamily);

class CudaCausalAttention : public CudaTest {};

void CheckDense(const AttentionProblem& problem, uint64_t seed, float deviation) {
  SCOPED_TRACE(::testing::Message() << "seed " << seed << ": " << problem);
  Random random(seed);
  cuda::Stream stream;
  AttentionCase attention(stream, random, problem, deviation, random.Coin());
  const Shape lse_shape{problem.batch, problem.heads, problem.queries};
  Tensor lse = cuda::DeviceTensor(lse_shape, DType::kF32, 0);
  cuda::DenseAttention(stream, attention.device(), attention.output.device(), lse);

  Tensor expected(attention.query.host().shape(), DType::kF32);
  Tensor expected_lse(lse_shape, DType::kF32);
  Context context(1);
  reference::DenseAttention(context, attention.host(), expected, expected_lse);
  ExpectOutput(attention.output.Read(stream), expected, LargestMagnitude(attention.value.host()),
               problem.dtype);
  ExpectFloats(ToHost(stream, lse), expected_lse, kLogSumExpTolerance);
}

TEST_P(CudaDenseAttention, MatchesReferenceOverRandomShapes) {
  for (uint64_t seed = 0; seed < 10; ++seed) {
    Random random(seed);
    CheckDense(RandomAttentionProblem(random), seed, 1.5f);
    if (HasFatalFailure()) return;
  }
}

TEST_P(CudaDenseAttention, MatchesReferenceAtTheEdgesOfTiles) {
  // One row, one key; whole tiles of 64 and 192 rows, of 64 keys; one more of each.
  for (const auto& [queries, keys] : {std::pair<int64_t, int64_t>{1, 1},
                                      {16, 64},
                                      {17, 65},
                                      {64, 128},
                                      {65, 63},
                                      {128, 128},
                                      {192, 64},
                                      {193, 129}}) {
    for (const DType dtype : {DType::kBF16, DType::kF16}) {
      for (const int64_t head_dim : {64, 128}) {
        if (queries > 100 && (dtype == DType::kF16) == (head_dim == 64)) continue;
        CheckDense({.queries = queries, .keys = keys, .head_dim = head_dim, .dtype = dtype}, 7, 1);
        if (HasFatalFailure()) return;
      }
    }
  }
}

TEST_F(CudaCausalAttention, MatchesReferenceOverRandomShapes) {
  for (uint64_t seed = 200; seed < 208; ++seed) {
    Random random(seed);
    CheckDense(RandomCausalProblem(random), seed, 1.5f);
    if (HasFatalFailure()) return;
  }
}

TEST_F(CudaCausalAttention, MatchesReferenceAtTheEdgesOfTiles) {
  for (const auto& [queries, keys] : {std::pair<int64_t, int64_t>{1, 1},
                                      {1, 90},
                                      {16, 16},
                                      {17, 65},
                                      {64, 64},
                                      {65, 128},
                                      {193, 193}}) {
    CheckDense({.queries = queries, .keys = keys, .head_dim = 64, .causal = true}, 7, 1);
    if (HasFatalFailure()) return;
  }
}

TEST_F(CudaCausalAttention, InTilesOf192Rows) {
  cuda::Stream stream;
  const int64_t heads = stream.properties().multiprocessors;
  for (const int64_t head_dim : {64, 128}) {
    CheckDense({.heads = heads, .queries = 70, .keys = 90, .head_dim = head_dim, .causal = true}, 3,
               1);
    if (HasFatalFailure()) return;
  }
}

TEST_P(CudaDenseAttention, UsesTilesOf192RowsWhenThereAreEnough) {
  // As many tiles as multiprocessors: more heads than any GPU has, few on the emulator.
  cuda::Stream stream;
  const int64_t heads = stream.properties().multiprocessors;
  for (const int64_t head_dim : {64, 128}) {
    CheckDense({.heads = heads, .queries = 70, .keys = 70, .head_dim = head_dim}, 3, 1);
    if (HasFatalFailure()) return;
  }
}

TEST_P(CudaDenseAttention, LargeScoresStayFinite) {
  // Scores up to some thousands: one key takes all the weight of most rows.
  CheckDense({.queries = 80, .keys = 130, .dtype = DType::kBF16}, 5, 20);
}

TEST_P(CudaDenseAttention, WithoutKeysIsZero) {
  Random random(1);
  cuda::Stream stream;
  AttentionCase attention(stream, random, {.queries = 70, .keys = 0});
  Tensor lse = cuda::DeviceTensor({1, 1, 70}, DType::kF32, 0);
  cuda::DenseAttention(stream, attention.device(), attention.output.device(), lse);
  EXPECT_EQ(LargestMagnitude(attention.output.Read(stream)), 0);
  const Tensor found = ToHost(stream, lse);
  for (int i = 0; i < 70; ++i) EXPECT_EQ(found.data<float>()[i], -INFINITY);
}

void CheckColumnSums(const AttentionProblem& problem, int64_t group_size, uint64_t seed) {
  SCOPED_TRACE(::testing::Message()
               << "seed " << seed << " group " << group_size << ": " << problem);
  Random random(seed);
  cuda::Stream stream;
  AttentionCase attention(stream, random, problem);
  const int64_t groups = (problem.queries + group_size - 1) / group_size;
  const Tensor previous = random.Normal({problem.batch, problem.heads, problem.queries}, 2);
  Tensor lse = ToDevice(stream, previous);  // refreshed in place, as a full step does
  Tensor sums =
      cuda::DeviceTensor({problem.batch, problem.heads, groups, problem.keys}, DType::kF32, 0);
  cuda::DenseAttentionColumnSums(stream, attention.device(), lse, group_size,
                                 attention.output.device(), lse, sums);

  Tensor expected(attention.query.host().shape(), DType::kF32);
  Tensor expected_lse(previous.shape(), DType::kF32);
  Tensor expected_sums(sums.shape(), DType::kF32);
  Context context(1);
  reference::DenseAttentionColumnSums(context, attention.host(), previous, group_size, expected,
                                      expected_lse, expected_sums);
  ExpectOutput(attention.output.Read(stream), expected, LargestMagnitude(attention.value.host()),
               problem.dtype);
  ExpectFloats(ToHost(stream, lse), expected_lse, kLogSumExpTolerance);
  ExpectFloats(ToHost(stream, sums), expected_sums, kColumnSumTolerance);
}

// Problems of seeds first to last - 1, made by make(random).
template <typename Make>
void CheckColumnSumsOverSeeds(uint64_t first, uint64_t last, const Make& make) {
  const int64_t sizes[] = {192, 64, 50, 7, 128};
  for (uint64_t seed = first; seed < last; ++seed) {
    Random random(seed);
    AttentionProblem problem = make(random);
    const int64_t group_size = sizes[seed % 5];
    if (group_size == 7) problem.queries = std::min<int64_t>(problem.queries, 30);
    CheckColumnSums(problem, group_size, seed);
    if (testing::Test::HasFatalFailure()) return;
  }
}

TEST_P(CudaDenseAttention, ColumnSumsMatchReferenceOverRandomShapes) {
  CheckColumnSumsOverSeeds(100, 110, RandomAttentionProblem);
}

TEST_P(CudaDenseAttention, ColumnSumsOfGroupsLargerThanATile) {
  CheckColumnSums({.queries = 290, .keys = 100, .head_dim = 64}, 250, 1);  // tiles of 192 rows
  CheckColumnSums({.queries = 410, .keys = 70, .head_dim = 64, .dtype = DType::kF16}, 1000, 2);
}

TEST_F(CudaCausalAttention, ColumnSumsMatchReferenceOverRandomShapes) {
  CheckColumnSumsOverSeeds(300, 308, RandomCausalProblem);
}

TEST_F(CudaCausalAttention, ColumnSumsOfGroupsLargerThanATile) {
  // The first tile of a group sees fewer keys than the next.
  CheckColumnSums({.queries = 290, .keys = 300, .head_dim = 64, .causal = true}, 250, 1);
}

// Scores of -110 to 110 against a log-sum-exp of 60: rows whose maximum lies far above it, where a
// weight that the softmax has rounded to 0 still counts, beside rows far below it.
TEST_P(CudaDenseAttention, ColumnSumsOfScoresThatHaveMovedFar) {
  for (const int64_t head_dim : {64, 128}) {
    Random random(21);
    cuda::Stream stream;
    AttentionCase attention(stream, random, {.queries = 140, .keys = 150, .head_dim = head_dim}, 6);
    Tensor previous({1, 1, 140}, DType::kF32);
    std::fill_n(previous.data<float>(), 140, 60.0f);
    const Tensor device_previous = ToDevice(stream, previous);
    Tensor sums = cuda::DeviceTensor({1, 1, 1, 150}, DType::kF32, 0);
    cuda::DenseAttentionColumnSums(stream, attention.device(), device_previous, 192,
                                   attention.output.device(), {}, sums);
    Tensor expected(attention.query.host().shape(), DType::kF32);
    Tensor expected_sums(sums.shape(), DType::kF32);
    Context context(1);
    reference::DenseAttentionColumnSums(context, attention.host(), previous, 192, expected, {},
                                        expected_sums);
    // Scores of 100 are rounded to 1e-5.
    ExpectFloats(ToHost(stream, sums), expected_sums, 10 * kColumnSumTolerance);
    ExpectOutput(attention.output.Read(stream), expected, LargestMagnitude(attention.value.host()),
                 DType::kBF16);
  }
}

TEST_P(CudaDenseAttention, ColumnSumsAreTheSameAtEveryRun) {
  Random random(9);
  cuda::Stream stream;
  AttentionCase attention(stream, random, {.queries = 150, .keys = 90});
  const Tensor previous = ToDevice(stream, random.Normal({1, 1, 150}));
  Tensor first({1, 1, 2, 90}, DType::kF32);
  for (int run = 0; run < 3; ++run) {
    Tensor sums = cuda::DeviceTensor({1, 1, 2, 90}, DType::kF32, 0);
    cuda::DenseAttentionColumnSums(stream, attention.device(), previous, 90,
                                   attention.output.device(), {}, sums);
    const Tensor found = ToHost(stream, sums);
    if (run == 0) CopyOnHost(found, first);
    EXPECT_EQ(LargestError(found, first), 0);
  }
}

TEST_P(CudaDenseAttention, NamesTheArgumentThatDoesNotFit) {
  Random random(1);
  Context device(kPlacement, 1);
  cuda::Stream& stream = device.stream();
  AttentionCase attention(stream, random, {.queries = 8, .keys = 6}, 1, false);
  const auto error_of = [&](const AttentionInputs& inputs) {
    return ArgumentErrorOf([&] { DenseAttention(device, inputs, attention.output.device()); });
  };
  AttentionInputs inputs = attention.device();
  inputs.value = inputs.value.Slice(2, 0, 5);
  EXPECT_THAT(error_of(inputs), HasSubstr("dense attention: value: expected shape [1, 1, 6, 64]"));
  inputs = attention.device();
  inputs.key = attention.key.host();
  EXPECT_THAT(error_of(inputs), HasSubstr("dense attention: key: expected bf16, found f32"));
  const Tensor rounded = Rounded(attention.key.host(), DType::kBF16);
  inputs.key = rounded;
  EXPECT_THAT(error_of(inputs), HasSubstr("key: expected memory of cuda:0, found memory of cpu"));
  inputs = attention.device();
  inputs.causal = true;
  EXPECT_THAT(error_of(inputs), HasSubstr("dense attention: key: expected at least 8 keys for as "
                                          "many causal queries, found 6"));
  inputs = attention.device();
  inputs.scale = 0;
  EXPECT_THAT(error_of(inputs), HasSubstr("scale: expected a positive number, found 0"));
  // Rows of 68 elements of which 64 are seen: 136 bytes apart.
  DeviceRows wide(stream, random, {1, 1, 6, 68}, DType::kBF16, 1, false);
  inputs = attention.device();
  inputs.key = wide.device().Slice(3, 0, 64);
  EXPECT_THAT(error_of(inputs), HasSubstr("key: expected strides of whole 16-byte vectors"));
}

TEST_P(CudaDenseAttention, ServesTheHeadDimensionsItNames) {
  Random random(1);
  cuda::Stream stream;
  AttentionCase attention(stream, random, {.queries = 8, .keys = 6, .head_dim = 72});
  ExpectError(ErrorCode::kUnsupported, "query: expected head dimension 64 or 128, found 72",
              [&] { cuda::DenseAttention(stream, attention.device(), attention.output.device()); });
}

}  // namespace
}  // namespace tamias
