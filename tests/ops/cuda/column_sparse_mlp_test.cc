#include "ops/column_sparse_mlp.h"

#include <fmt/format.h>

#include <gmock/gmock.h>

#include <numeric>

#include "tests/support/device_operand.h"
#include "tests/support/float8_matrix.h"
#include "tests/support/kernel_families.h"
#ifdef TAMIAS_CUDA_EMULATION
#include "tamias/error.h"
#include "tests/cuda_emulator/block.h"
#endif

namespace tamias {
namespace {

class CudaColumnSparseMlp : public KernelFamilyTest {
 protected:
  cuda::Stream& stream() {
    if (stream_ == nullptr) stream_ = std::make_unique<cuda::Stream>();
    return *stream_;
  }

 private:
  std::unique_ptr<cuda::Stream> stream_;
};
INSTANTIATE_TEST_SUITE_P(Kernels, CudaColumnSparseMlp, ::testing::ValuesIn(KernelFamiliesHere()),
                         NameOfFamily);

constexpr Activation kActivations[] = {
    Activation::kNone, Activation::kRelu,      Activation::kGeluTanh, Activation::kGeluErf,
    Activation::kSilu, Activation::kQuickGelu, Activation::kTanh};

struct Case {
  int64_t batch, tokens, model_dim, neurons, group_size, groups, capacity;
  DType dtype;
  DeviceOperand input, fc1, fc1_bias, fc2_transposed, cache, delta, output;
  Tensor indices, counts, device_indices, device_counts;
  MlpWeights host, device;

  NeuronSelection HostSelection() const { return {indices.view(), counts.view(), group_size}; }
  NeuronSelection DeviceSelection() const {
    return {device_indices.view(), device_counts.view(), group_size};
  }
};

// Empty, full and in-between selections, ascending; unused entries are no indices.
void MakeSelection(cuda::Stream& stream, Random& random, Case& c) {
  c.capacity = random.Coin() ? c.neurons : random.Integer(0, c.neurons);
  c.indices = Tensor({c.batch, c.groups, c.capacity}, DType::kI32);
  c.counts = Tensor({c.batch, c.groups}, DType::kI32);
  std::vector<int32_t> order(static_cast<size_t>(c.neurons));
  std::iota(order.begin(), order.end(), 0);
  for (int64_t group = 0; group < c.batch * c.groups; ++group) {
    std::shuffle(order.begin(), order.end(), random.generator());
    const int64_t kind = random.Integer(0, 3);
    const int64_t count = kind == 0   ? 0
                          : kind == 1 ? std::min<int64_t>(1, c.capacity)
                          : kind == 2 ? c.capacity
                                      : random.Integer(0, c.capacity);
    std::vector<int32_t> chosen(order.begin(), order.begin() + count);
    std::sort(chosen.begin(), chosen.end());
    chosen.resize(static_cast<size_t>(c.capacity), -1);
    std::copy(chosen.begin(), chosen.end(), c.indices.data<int32_t>() + group * c.capacity);
    c.counts.data<int32_t>()[group] = static_cast<int32_t>(count);
  }
  c.device_indices = ToDevice(stream, c.indices.view());
  c.device_counts = ToDevice(stream, c.counts.view());
}

DeviceOperand Contiguous(cuda::Stream& stream, Random& random, const Shape& shape, DType dtype,
                         float scale = 1) {
  return MakeOperand(stream, random, shape, dtype, scale, 0, Layout::kContiguous);
}

// No kernel may count on what the delta holds behind a list.
void FillUnusedWithNaN(cuda::Stream& stream, Case& c) {
  for (int64_t g = 0; g < c.batch * c.groups; ++g) {
    const int64_t count = c.counts.data<int32_t>()[g];
    float* rows = c.delta.host_storage.data<float>() + g * c.capacity * c.group_size;
    std::fill(rows + count * c.group_size, rows + c.capacity * c.group_size, NAN);
  }
  const Tensor rounded = Rounded(c.delta.host_storage.view(), c.dtype);
  cuda::Copy(stream, rounded.view(), c.delta.device);
  stream.Synchronize();
}

struct Sizes {
  int64_t tokens, model_dim, neurons, group_size;
};

Sizes SmallSizes(Random& random) {
  const int64_t group_sizes[] = {128, 256, 8 * random.Integer(1, 25)};
  return {random.Integer(1, 300), 8 * random.Integer(1, 21), random.Integer(1, 300),
          group_sizes[random.Integer(0, 2)]};
}

Case RandomCase(cuda::Stream& stream, Random& random, DType dtype, const Sizes& sizes) {
  Case c;
  c.dtype = dtype;
  c.batch = random.Integer(1, 2);
  c.tokens = sizes.tokens;
  c.model_dim = sizes.model_dim;
  c.neurons = sizes.neurons;
  c.group_size = sizes.group_size;
  c.groups = (c.tokens + c.group_size - 1) / c.group_size;
  MlpWeights weights;
  weights.gated = random.Coin();
  weights.gate_first = random.Coin();
  weights.activation = kActivations[random.Integer(0, 6)];
  const bool has_bias = random.Coin();
  const int64_t rows = weights.gated ? 2 * c.neurons : c.neurons;
  const float fc1_scale = 1 / std::sqrt(static_cast<float>(c.model_dim));
  const float fc2_scale = 1 / std::sqrt(static_cast<float>(c.neurons));
  const DType output_type = random.Coin() ? dtype : DType::kF32;
  c.input = MakeOperand(stream, random, {c.batch, c.tokens, c.model_dim}, dtype);
  c.fc1 = MakeOperand(stream, random, {rows, c.model_dim}, dtype, fc1_scale);
  c.fc1_bias = Contiguous(stream, random, {rows}, RandomFloatType(random), 0.1f);
  c.fc2_transposed = Contiguous(stream, random, {c.neurons, c.model_dim}, dtype, fc2_scale);
  MakeSelection(stream, random, c);
  c.cache = Contiguous(stream, random, {c.batch, c.groups, c.neurons, c.group_size}, dtype);
  c.delta = Contiguous(stream, random, {c.batch, c.groups, c.capacity, c.group_size}, dtype);
  FillUnusedWithNaN(stream, c);
  c.output = MakeOperand(stream, random, {c.batch, c.tokens, c.model_dim}, output_type);
  c.host = c.device = weights;
  c.host.fc1_weight = c.fc1.host;
  c.device.fc1_weight = c.fc1.device;
  if (has_bias) c.host.fc1_bias = c.fc1_bias.host;
  if (has_bias) c.device.fc1_bias = c.fc1_bias.device;
  c.host.fc2_weight_transposed = c.fc2_transposed.host;
  c.device.fc2_weight_transposed = c.fc2_transposed.device;
  return c;
}

Case RandomCase(cuda::Stream& stream, Random& random, DType dtype) {
  return RandomCase(stream, random, dtype, SmallSizes(random));
}

// Lanes past the last token, and the delta beyond the counts, hold no meaning.
float LargestMeaningfulError(const Case& c, const Tensor& actual, const Tensor& expected,
                             bool only_chosen) {
  float largest = 0;
  const int64_t rows = actual.dim(2);
  for (int64_t g = 0; g < c.batch * c.groups; ++g) {
    const int64_t used = std::min(c.group_size, c.tokens - g % c.groups * c.group_size);
    const int64_t count = only_chosen ? c.counts.data<int32_t>()[g] : rows;
    for (int64_t j = 0; j < count; ++j) {
      for (int64_t i = 0; i < used; ++i) {
        const float a = actual.data<float>()[(g * rows + j) * c.group_size + i];
        const float e = expected.data<float>()[(g * rows + j) * c.group_size + i];
        const float error = std::abs(a - e) / (1 + std::abs(e));
        largest = error <= largest ? largest : std::isnan(error) ? INFINITY : error;
      }
    }
  }
  return largest;
}

// f16 and bf16 round the inputs' products alike: fp32 sums, one rounding of the result. A delta is
// the difference of two activations, each within a rounding.
float ProductTolerance(DType dtype) { return 2 * Tolerance(dtype); }

void ExpectFirstProductMatches(cuda::Stream& stream, Case& c) {
  Context context(1);
  cuda::ColumnSparseMlpUp(stream, c.input.device, c.device, c.DeviceSelection(), c.cache.device,
                          c.delta.device);
  reference::ColumnSparseMlpUp(context, c.input.host, c.host, c.HostSelection(), c.cache.host,
                               c.delta.host);
  EXPECT_LT(LargestMeaningfulError(c, c.cache.Result(stream), c.cache.host_storage, false),
            ProductTolerance(c.dtype));
  EXPECT_LT(LargestMeaningfulError(c, c.delta.Result(stream), c.delta.host_storage, true),
            ProductTolerance(c.dtype));
}

void ExpectSecondProductMatches(cuda::Stream& stream, Case& c) {
  Context context(1);
  cuda::ColumnSparseMlpDown(stream, c.delta.device, c.device, c.DeviceSelection(), c.output.device);
  reference::ColumnSparseMlpDown(context, c.delta.host, c.host, c.HostSelection(), c.output.host);
  EXPECT_LT(c.output.Error(stream), ProductTolerance(c.output.device.dtype()));
}

TEST_P(CudaColumnSparseMlp, FirstProductMatchesReferenceOverRandomShapes) {
  for (const DType dtype : kHalfTypes) {
    for (uint64_t seed = 0; seed < 16; ++seed) {
      SCOPED_TRACE(fmt::format("{} seed {}", Name(dtype), seed));
      Random random(seed);
      Case c = RandomCase(stream(), random, dtype);
      ExpectFirstProductMatches(stream(), c);
    }
  }
}

// With a matrix in 16 bits or in 8, of widths that products of 8 bits take and others.
TEST_P(CudaColumnSparseMlp, FirstProductInFloat8IsThatOfRoundedFactors) {
  for (const DType dtype : kHalfTypes) {
    for (uint64_t seed = 0; seed < 12; ++seed) {
      SCOPED_TRACE(fmt::format("{} seed {}", Name(dtype), seed));
      Random random(seed);
      Sizes sizes = SmallSizes(random);
      if (seed % 4 != 0) sizes.model_dim = 16 * random.Integer(1, 20);
      Case c = RandomCase(stream(), random, dtype, sizes);
      const bool is_quantised = random.Coin();
      const Float8Matrix matrix =
          RandomFloat8Matrix(random, c.host.fc1_weight.dim(0), c.model_dim,
                             2 / std::sqrt(static_cast<float>(c.model_dim)));
      const Tensor codes = ToDevice(stream(), matrix.codes.view());
      const Tensor scales = ToDevice(stream(), matrix.scales.view());
      if (is_quantised) {
        c.device.fc1_weight = codes.view().WithRowScales(scales.data<float>());
      }
      const Tensor fc1 = is_quantised ? matrix.Wide() : RoundedToFloat8(c.host.fc1_weight);
      const Tensor input = RoundedToFloat8(c.input.host);
      c.host.fc1_weight = fc1.view();
      c.device.is_fp8 = true;
      Context device({{DeviceType::kCuda, 0}, dtype}, 1), host(1);
      ColumnSparseMlpUp(device, c.input.device, c.device, c.DeviceSelection(), c.cache.device,
                        c.delta.device);
      device.Synchronize();
      reference::ColumnSparseMlpUp(host, input.view().Reshape(c.input.host.shape()), c.host,
                                   c.HostSelection(), c.cache.host, c.delta.host);
      EXPECT_LT(LargestMeaningfulError(c, c.cache.Result(stream()), c.cache.host_storage, false),
                ProductTolerance(dtype));
      EXPECT_LT(LargestMeaningfulError(c, c.delta.Result(stream()), c.delta.host_storage, true),
                ProductTolerance(dtype));
    }
  }
}

TEST_P(CudaColumnSparseMlp, InFloat8NoMoreIsTakenThanPlanned) {
  Random random(7);
  const Sizes sizes = {.tokens = 200, .model_dim = 64, .neurons = 96, .group_size = 128};
  Case c = RandomCase(stream(), random, DType::kBF16, sizes);
  c.device.is_fp8 = true;
  Context device(kPlacement, 1), planned = Context::Planning(kPlacement, 1);
  for (Context* context : {&device, &planned}) {
    ColumnSparseMlp(*context, c.input.device, c.device, c.DeviceSelection(), c.cache.device,
                    c.output.device);
  }
  device.Synchronize();
  EXPECT_GT(device.workspace().peak_bytes(), 0u);
  EXPECT_LE(device.workspace().peak_bytes(), planned.workspace().peak_bytes());
}

TEST_P(CudaColumnSparseMlp, SecondProductMatchesReferenceOverRandomShapes) {
  for (const DType dtype : kHalfTypes) {
    for (uint64_t seed = 100; seed < 116; ++seed) {
      SCOPED_TRACE(fmt::format("{} seed {}", Name(dtype), seed));
      Random random(seed);
      Case c = RandomCase(stream(), random, dtype);
      ExpectSecondProductMatches(stream(), c);
    }
  }
}

// Several tiles along each axis, more than blocks run at one time on the emulator, and more stages
// than a block has in shared memory, the last ones partly filled.
TEST_P(CudaColumnSparseMlp, ManyTilesAndStagesMatchReference) {
  for (const int64_t group_size : {128, 256, 384, 512}) {
    SCOPED_TRACE(group_size);
    Random random(static_cast<uint64_t>(group_size));
    const Sizes sizes = {.tokens = 600, .model_dim = 344, .neurons = 530, .group_size = group_size};
    const DType dtype = kHalfTypes[group_size / 128 % 2];
    Case first = RandomCase(stream(), random, dtype, sizes);
    ExpectFirstProductMatches(stream(), first);
    Case second = RandomCase(stream(), random, dtype, sizes);
    ExpectSecondProductMatches(stream(), second);
  }
}

// After many steps of changing inputs and selections the output cache is still the product of the
// activations that the cache holds: deltas are taken between rounded values.
TEST_P(CudaColumnSparseMlp, ManyStepsDoNotDriftFromTheCache) {
  Random random(3);
  Context context(1);
  Case c = RandomCase(stream(), random, DType::kBF16);
  const Shape output_shape = {c.batch, c.tokens, c.model_dim};
  Tensor cache = ToDevice(stream(), Tensor::Zeros(c.cache.host.shape(), DType::kBF16).view());
  Tensor output = ToDevice(stream(), Tensor::Zeros(output_shape, DType::kF32).view());
  for (int step = 0; step < 6; ++step) {
    c.input = MakeOperand(stream(), random, output_shape, DType::kBF16);
    MakeSelection(stream(), random, c);
    c.delta =
        Contiguous(stream(), random, {c.batch, c.groups, c.capacity, c.group_size}, DType::kBF16);
    cuda::ColumnSparseMlp(stream(), c.input.device, c.device, c.DeviceSelection(), cache,
                          c.delta.device, output);
  }
  const Tensor activations = ToFloat32(ToHost(stream(), cache.view()));
  Tensor everything({c.batch, c.groups, c.neurons}, DType::kI32);
  Tensor counts({c.batch, c.groups}, DType::kI32);
  for (int64_t g = 0; g < c.batch * c.groups; ++g) {
    counts.data<int32_t>()[g] = static_cast<int32_t>(c.neurons);
    std::iota(everything.data<int32_t>() + g * c.neurons,
              everything.data<int32_t>() + (g + 1) * c.neurons, 0);
  }
  Tensor expected = Tensor::Zeros(output_shape, DType::kF32);
  reference::ColumnSparseMlpDown(context, activations.view(), c.host,
                                 {everything.view(), counts.view(), c.group_size}, expected);
  EXPECT_LT(LargestError(ToHost(stream(), output.view()).view(), expected.view()), 1e-2f);
}

// Lists on the device are not checked: what is no neuron counts for nothing, and too large a count
// ends at the capacity.
TEST_P(CudaColumnSparseMlp, EntriesThatAreNoNeuronsCountForNothing) {
  Random random(11);
  Context context(1);
  Case c = RandomCase(stream(), random, DType::kF16);
  const Shape lists = {c.batch, c.groups, 6};
  Tensor indices(lists, DType::kI32), counts({c.batch, c.groups}, DType::kI32);
  for (int64_t g = 0; g < c.batch * c.groups; ++g) {
    const int32_t neurons = static_cast<int32_t>(c.neurons);
    const int32_t list[] = {-1, 3, neurons, 5, INT32_MAX, INT32_MIN};
    std::copy(std::begin(list), std::end(list), indices.data<int32_t>() + g * 6);
    counts.data<int32_t>()[g] = 7;
  }
  const Tensor device_indices = ToDevice(stream(), indices.view());
  const Tensor device_counts = ToDevice(stream(), counts.view());
  const Shape delta_shape = {c.batch, c.groups, 6, c.group_size};
  Tensor delta = cuda::DeviceTensor(delta_shape, DType::kF16, stream().device().index);
  cuda::ColumnSparseMlp(stream(), c.input.device, c.device,
                        {device_indices.view(), device_counts.view(), c.group_size}, c.cache.device,
                        delta, c.output.device);
  for (int64_t g = 0; g < c.batch * c.groups; ++g) {
    indices.data<int32_t>()[g * 6] = 3;
    indices.data<int32_t>()[g * 6 + 1] = 5;
    counts.data<int32_t>()[g] = 2;
  }
  reference::ColumnSparseMlp(context, c.input.host, c.host,
                             {indices.view(), counts.view(), c.group_size}, c.cache.host,
                             c.output.host);
  EXPECT_LT(c.output.Error(stream()), ProductTolerance(DType::kF16));
}

TEST_P(CudaColumnSparseMlp, StoresActivationsAsTheReferenceDoes) {
  for (uint64_t seed = 0; seed < 12; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    Context context(1);
    const int64_t batch = random.Integer(1, 2), tokens = random.Integer(1, 300);
    const int64_t neurons = 8 * random.Integer(1, 20);
    const int64_t group_size = random.Coin() ? 128 : 8 * random.Integer(1, 20);
    const Shape shape{batch, (tokens + group_size - 1) / group_size, neurons, group_size};
    const DType dtype = kHalfTypes[random.Integer(0, 1)];
    const DeviceOperand activations =
        MakeOperand(stream(), random, {batch, tokens, neurons}, dtype);
    const DeviceOperand cached = Contiguous(stream(), random, shape, dtype);
    reference::StoreActivations(context, activations.host, cached.host);
    cuda::StoreActivations(stream(), activations.device, cached.device);
    EXPECT_EQ(cached.Error(stream()), 0.0f);
  }
}

TEST_P(CudaColumnSparseMlp, ErrorsNameTheArgument) {
  Random random(1);
  const Case c = RandomCase(stream(), random, DType::kBF16);
  Context device(kPlacement, 1);
  const auto message = [&](const MlpWeights& weights, ConstTensorView input, int64_t group_size) {
    NeuronSelection selection = c.DeviceSelection();
    selection.group_size = group_size;
    return ErrorOf([&] {
      if (group_size == c.group_size) {
        ColumnSparseMlp(device, input, weights, selection, c.cache.device, c.output.device);
      } else {  // no cache has groups that the kernels cannot serve: at their own entry
        cuda::ColumnSparseMlp(stream(), input, weights, selection, c.cache.device, c.delta.device,
                              c.output.device);
      }
    });
  };
  using ::testing::HasSubstr;
  EXPECT_THAT(message(c.device, c.input.host, c.group_size),
              HasSubstr("input: expected memory of cuda:0, found memory of cpu"));
  const Tensor wide = ToDevice(stream(), Tensor::Zeros(c.input.host.shape(), DType::kF32).view());
  EXPECT_THAT(message(c.device, wide.view(), c.group_size),
              HasSubstr("input: expected bf16, found f32"));
  const Tensor wide_weight =
      ToDevice(stream(), Tensor::Zeros(c.host.fc1_weight.shape(), DType::kF32).view());
  MlpWeights weights = c.device;
  weights.fc1_weight = wide_weight.view();
  EXPECT_THAT(message(weights, c.input.device, c.group_size),
              HasSubstr("fc1_weight: expected bf16, found f32"));
  EXPECT_THAT(message(c.device, c.input.device, c.group_size + 1),
              HasSubstr("group_size: expected a multiple of 8"));
  weights = c.device;
  weights.fc2_weight_transposed = {};
  EXPECT_THAT(message(weights, c.input.device, c.group_size), HasSubstr("fc2_weight_transposed"));
}

#ifdef TAMIAS_CUDA_EMULATION
TEST_P(CudaColumnSparseMlp, Float8TakesHalfAsManyProducts) {
  for (const int64_t group_size : {128, 256}) {
    SCOPED_TRACE(group_size);
    Random random(1);
    const Sizes sizes = {.tokens = 256, .model_dim = 512, .neurons = 96, .group_size = group_size};
    Case c = RandomCase(stream(), random, DType::kBF16, sizes);
    Context device(kPlacement, 1);
    const auto products = [&](bool is_fp8) {
      c.device.is_fp8 = is_fp8;
      ColumnSparseMlpUp(device, c.input.device, c.device, c.DeviceSelection(), c.cache.device,
                        c.delta.device);
      device.Synchronize();
      return cuda_emulator::LastLaunch().warpgroup_products;
    };
    const auto of_16_bits = products(false), of_8_bits = products(true);
    EXPECT_EQ(of_8_bits, of_16_bits / 2);
    EXPECT_EQ(of_8_bits > 0, IsSm90a());
  }
}

// ldmatrix; the tensor cores of 9.0 read shared memory themselves.
TEST_P(CudaColumnSparseMlp, MatrixLoadsFindTheirRowsInDifferentBanks) {
  Random random(2);
  const Case c = RandomCase(stream(), random, DType::kF16);
  const auto expect_no_conflicts = [&] {
    EXPECT_EQ(cuda_emulator::LastLaunch().matrix_loads == 0, IsSm90a());
    EXPECT_EQ(cuda_emulator::LastLaunch().matrix_load_conflicts, 0);
  };
  cuda::ColumnSparseMlpUp(stream(), c.input.device, c.device, c.DeviceSelection(), c.cache.device,
                          c.delta.device);
  expect_no_conflicts();
  cuda::ColumnSparseMlpDown(stream(), c.delta.device, c.device, c.DeviceSelection(),
                            c.output.device);
  expect_no_conflicts();
}
#endif

}  // namespace
}  // namespace tamias
