#include "ops/column_sparse_attention.h"

#include <limits>
#include <numeric>
#include <vector>

#include "tests/support/device_attention.h"
#include "tests/support/kernel_families.h"
#include "tests/support/operands.h"

namespace tamias {
namespace {

using ::testing::HasSubstr;

constexpr float kLogSumExpTolerance = 1e-5f;

class CudaColumnSparseAttention : public KernelFamilyTest {};
INSTANTIATE_TEST_SUITE_P(Kernels, CudaColumnSparseAttention,
                         ::testing::ValuesIn(KernelFamiliesHere()), NameOfFamily);

class CudaCausalColumnSparseAttention : public CudaTest {};

// Lists of random length, the first groups' empty, of one column, and of all.
struct Lists {
  Lists(Random& random, const AttentionProblem& p, int64_t group_size, int64_t dense_rows = 0)
      : groups((p.queries - dense_rows + group_size - 1) / group_size),
        indices({p.batch, p.heads, groups, p.keys}, DType::kI32),
        counts({p.batch, p.heads, groups}, DType::kI32) {
    std::vector<int32_t> all(static_cast<size_t>(p.keys));
    std::iota(all.begin(), all.end(), 0);
    for (int64_t list = 0; list < counts.NumElements(); ++list) {
      const int64_t lengths[] = {random.Integer(0, p.keys), 0, std::min<int64_t>(1, p.keys),
                                 p.keys};
      const int64_t count = lengths[list < 4 ? list : 0];
      int32_t* to = indices.data<int32_t>() + list * p.keys;
      std::fill(to, to + p.keys, 1 << 30);  // behind the list: nobody's business
      std::sample(all.begin(), all.end(), to, count, random.generator());
      counts.data<int32_t>()[list] = static_cast<int32_t>(count);
    }
  }
  int64_t groups;
  Tensor indices, counts;
};

enum class Form { kPlain, kAdditive, kSubtracted, kInPlace, kMerged, kMergedInPlace };

struct Epilogues {
  SparseAttentionEpilogue device, host;
};

// The base is the output's old content in the forms in place.
Epilogues EpiloguesOf(Form form, AttentionCase& attention, DeviceRows& base, const Tensor& base_lse,
                      const Tensor& device_base_lse) {
  const bool in_place = form == Form::kInPlace || form == Form::kMergedInPlace;
  DeviceRows& source = in_place ? attention.output : base;
  Epilogues epilogues;
  if (form != Form::kPlain) {
    const auto grouped = [&](const TensorView& rows) {
      return rows.Slice(2, rows.dim(2) - base_lse.dim(2), rows.dim(2));
    };
    epilogues.device.base = grouped(source.device());
    epilogues.host.base = grouped(source.host());
  }
  if (form == Form::kMerged || form == Form::kMergedInPlace) {
    epilogues.device.base_log_sum_exp = device_base_lse;
    epilogues.host.base_log_sum_exp = base_lse;
  }
  epilogues.device.scale = epilogues.host.scale = form == Form::kSubtracted ? -1.0f : 1.0f;
  return epilogues;
}

void CheckSparse(const AttentionProblem& problem, int64_t group_size, Form form, uint64_t seed,
                 int64_t dense_rows = 0) {
  SCOPED_TRACE(::testing::Message()
               << "seed " << seed << " group " << group_size << " dense " << dense_rows << " form "
               << static_cast<int>(form) << ": " << problem);
  Random random(seed);
  cuda::Stream stream;
  AttentionCase attention(stream, random, problem, 1, random.Coin());
  DeviceRows base(stream, random, attention.output.host().shape(), problem.dtype, 1, random.Coin());
  Tensor base_lse = random.Normal({problem.batch, problem.heads, problem.queries - dense_rows}, 3);
  for (int64_t i = 0; i < base_lse.NumElements(); i += 3) base_lse.data<float>()[i] = -INFINITY;
  const Tensor device_base_lse = ToDevice(stream, base_lse);
  const Lists lists(random, problem, group_size, dense_rows);
  const Tensor indices = ToDevice(stream, lists.indices), counts = ToDevice(stream, lists.counts);
  const Epilogues epilogues = EpiloguesOf(form, attention, base, base_lse, device_base_lse);
  Tensor lse = cuda::DeviceTensor(base_lse.shape(), DType::kF32, 0);
  Tensor order = cuda::DeviceTensor({counts.NumElements()}, DType::kI32, 0);
  cuda::LongestFirstOrder(stream, counts, order);

  // Before the device's output, which may be the base, changes.
  Tensor expected(attention.query.host().shape(), DType::kF32);
  Tensor expected_lse(base_lse.shape(), DType::kF32);
  Context context(1);
  const ColumnSelection host{.indices = lists.indices,
                             .counts = lists.counts,
                             .group_size = group_size,
                             .dense_rows = dense_rows};
  const ColumnSelection device{
      .indices = indices, .counts = counts, .group_size = group_size, .dense_rows = dense_rows};
  reference::ColumnSparseAttention(context, attention.host(), host, epilogues.host, expected,
                                   expected_lse);
  cuda::ColumnSparseAttention(stream, attention.device(), device, epilogues.device,
                              attention.output.device(), lse,
                              seed % 2 == 0 ? order.view() : TensorView());
  ExpectOutput(attention.output.Read(stream), expected, LargestMagnitude(attention.value.host()),
               problem.dtype);
  ExpectFloats(ToHost(stream, lse), expected_lse, kLogSumExpTolerance);
}

TEST_P(CudaColumnSparseAttention, MatchesReferenceOverRandomShapesAndForms) {
  const int64_t sizes[] = {192, 30, 128, 61, 16};
  for (uint64_t seed = 0; seed < 18; ++seed) {
    Random random(seed);
    CheckSparse(RandomAttentionProblem(random), sizes[seed % 5], static_cast<Form>(seed % 6), seed);
    if (HasFatalFailure()) return;
  }
}

TEST_F(CudaCausalColumnSparseAttention, MatchesReferenceOverRandomShapesAndForms) {
  const int64_t sizes[] = {192, 30, 128, 61, 16};
  for (uint64_t seed = 100; seed < 118; ++seed) {
    Random random(seed);
    CheckSparse(RandomCausalProblem(random), sizes[seed % 5], static_cast<Form>(seed % 6), seed);
    if (HasFatalFailure()) return;
  }
}

// All forms, with rows that fill no tile, one, and more; beside groups that do and do not.
TEST_P(CudaColumnSparseAttention, DenseRowsSeeEveryKeyInTheSameLaunch) {
  const int64_t sizes[] = {192, 30, 128};
  for (uint64_t seed = 200; seed < 212; ++seed) {
    Random random(seed);
    AttentionProblem problem = RandomAttentionProblem(random);
    const int64_t dense_rows = seed % 4 == 0 ? 192 : random.Integer(1, 250);
    problem.queries += dense_rows;
    CheckSparse(problem, sizes[seed % 3], static_cast<Form>(seed % 6), seed, dense_rows);
    if (HasFatalFailure()) return;
  }
}

TEST_F(CudaCausalColumnSparseAttention, GroupsLargerThanATile) {
  CheckSparse({.queries = 290, .keys = 300, .head_dim = 64, .causal = true}, 250, Form::kMerged, 1);
}

TEST_P(CudaColumnSparseAttention, GroupsLargerThanATile) {
  CheckSparse({.queries = 290, .keys = 90, .head_dim = 128}, 250, Form::kMerged, 1);
  CheckSparse({.queries = 290, .keys = 90, .head_dim = 64}, 1000, Form::kInPlace, 2);
}

TEST_P(CudaColumnSparseAttention, WithoutKeysOnlyTheBaseIsLeft) {
  CheckSparse({.queries = 100, .keys = 0}, 80, Form::kAdditive, 1);
  CheckSparse({.queries = 100, .keys = 0}, 80, Form::kMerged, 2);
}

TEST_P(CudaColumnSparseAttention, LongestListsStartFirst) {
  Random random(4);
  cuda::Stream stream;
  Tensor counts({2, 3, 120}, DType::kI32);
  for (int64_t i = 0; i < 720; ++i) {
    counts.data<int32_t>()[i] = static_cast<int32_t>(random.Integer(0, 400));
  }
  counts.data<int32_t>()[700] = 500000;  // beyond the last bin
  const Tensor device_counts = ToDevice(stream, counts);
  Tensor order = cuda::DeviceTensor({720}, DType::kI32, 0);
  cuda::LongestFirstOrder(stream, device_counts, order);
  const Tensor found = ToHost(stream, order);
  std::vector<int32_t> expected(720);
  std::iota(expected.begin(), expected.end(), 0);
  std::stable_sort(expected.begin(), expected.end(), [&](int32_t a, int32_t b) {
    return (counts.data<int32_t>()[a] + 63) / 64 > (counts.data<int32_t>()[b] + 63) / 64;
  });
  EXPECT_EQ(std::vector<int32_t>(found.data<int32_t>(), found.data<int32_t>() + 720), expected);
}

TEST_P(CudaColumnSparseAttention, NamesTheArgumentThatDoesNotFit) {
  Random random(1);
  Context device(kPlacement, 1);
  cuda::Stream& stream = device.stream();
  AttentionCase attention(stream, random, {.queries = 20, .keys = 6});
  const Lists lists(random, attention.problem, 10);
  const Tensor indices = ToDevice(stream, lists.indices), counts = ToDevice(stream, lists.counts);
  const Tensor lse = ToDevice(stream, random.Normal({1, 1, 20}));
  const auto error_of = [&](const ColumnSelection& selection,
                            const SparseAttentionEpilogue& epilogue) {
    return ArgumentErrorOf([&] {
      ColumnSparseAttention(device, attention.device(), selection, epilogue,
                            attention.output.device());
    });
  };
  EXPECT_THAT(error_of({.indices = indices, .counts = counts, .group_size = 5}, {}),
              HasSubstr("column-sparse attention: indices: expected shape [1, 1, 4, any]"));
  EXPECT_THAT(error_of({.indices = indices, .counts = counts, .group_size = 0}, {}),
              HasSubstr("group_size: expected at least 1, found 0"));
  EXPECT_THAT(error_of({.indices = lists.indices, .counts = counts, .group_size = 10}, {}),
              HasSubstr("indices: expected memory of cuda:0, found memory of cpu"));
  EXPECT_THAT(
      error_of({.indices = indices, .counts = counts, .group_size = 10}, {.base_log_sum_exp = lse}),
      HasSubstr("base: expected a tensor with base_log_sum_exp, found none"));
}

}  // namespace
}  // namespace tamias
