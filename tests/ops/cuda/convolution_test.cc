#include <gmock/gmock.h>

#include <bit>

#include "ops/conv2d.h"
#include "ops/conv3d.h"
#include "ops/norm.h"
#include "ops/upsample_conv2d.h"
#include "ops/upsample_conv3d.h"
#include "tamias/error.h"
#include "tests/support/device_operand.h"

namespace tamias {
namespace {

constexpr uint64_t kSeeds = 12;

// [B, T, H, W, C] of which films and frames may lie apart, but no pixels.
DeviceOperand RandomFilm(cuda::Stream& stream, Random& random, const Shape& shape, DType dtype) {
  Shape larger = shape;
  larger[0] += random.Integer(0, 1);
  larger[1] += random.Integer(0, 2);
  DeviceOperand film = MakeOperand(stream, random, larger, dtype, 1, 0, Layout::kContiguous);
  for (int axis = 0; axis < 2; ++axis) {
    film.host = film.host.Slice(axis, 0, shape[axis]);
    film.device = film.device.Slice(axis, 0, shape[axis]);
  }
  return film;
}

// Multiples of 1/16 of a power of two: every type holds them, so that rounding the weight to the
// input's type changes nothing. The outputs are of size one.
DeviceOperand RandomWeight(cuda::Stream& stream, Random& random, const Shape& shape) {
  DeviceOperand weight = MakeOperand(stream, random, shape, DType::kF32, 1, 0, Layout::kContiguous);
  const auto fan_in = static_cast<uint64_t>(shape.NumElements() / shape[0]);
  const float unit = 1.0f / static_cast<float>(16u << (std::bit_width(fan_in) / 2));
  for (int64_t i = 0; i < weight.host.NumElements(); ++i) {
    weight.host.data<float>()[i] = unit * static_cast<float>(random.Integer(-16, 16));
  }
  const DType dtype = RandomFloatType(random);
  weight.device_storage = dtype == DType::kF32
                              ? ToDevice(stream, weight.host)
                              : ToDevice(stream, Rounded(weight.host, dtype).view());
  weight.device = weight.device_storage;
  return weight;
}

DeviceOperand RandomBias(cuda::Stream& stream, Random& random, int64_t outputs) {
  if (random.Coin()) return {};
  return MakeOperand(stream, random, {outputs}, RandomFloatType(random), 1, 0, Layout::kContiguous);
}

Tensor DeviceBytes(cuda::Stream& stream, size_t bytes) {
  return cuda::DeviceTensor({static_cast<int64_t>(bytes)}, DType::kU8, stream.device().index);
}

// Sums of up to 1,000 products of size 1/30 in another order, and the output's rounding.
float Tolerance(const DeviceOperand& output) { return Tolerance(output.device.dtype()) + 1e-5f; }

class CudaConvolution : public CudaTest {
 protected:
  // A whole number that is often beyond a tile.
  static int64_t RandomOutputs(Random& random) {
    constexpr int64_t kOutputs[] = {1, 3, 8, 11, 24, 64, 136};
    return kOutputs[random.Integer(0, 6)];
  }
  static int64_t RandomChannels(Random& random) { return 8 * random.Integer(1, 6); }
  // In every other case such as are copied with zeros behind them: colours, latents.
  static int64_t AnyChannels(Random& random) {
    return random.Coin() ? RandomChannels(random) : random.Integer(1, 14);
  }

  cuda::Stream stream_;
  Context context_{1};
};

TEST_F(CudaConvolution, Conv3dMatchesReferenceOverRandomShapes) {
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    const Shape size = {random.Integer(1, 2), random.Integer(1, 3), random.Integer(1, 7),
                        random.Integer(1, 13), AnyChannels(random)};
    const Shape kernel = {RandomOutputs(random), size[4], random.Integer(1, 3),
                          random.Integer(1, 3), random.Integer(1, 3)};
    Conv3dOptions options;
    options.accumulate = random.Coin();
    options.padding.mode = random.Coin() ? PaddingMode::kZeros : PaddingMode::kReplicate;
    // Each side less than the kernel, together enough for an output.
    const auto pad = [&](int axis, int64_t& before, int64_t& after) {
      before = random.Integer(0, kernel[axis + 1] - 1);
      after = random.Integer(0, kernel[axis + 1] - 1);
      if (size[axis] + before + after < kernel[axis + 1]) before = after = kernel[axis + 1] - 1;
      return size[axis] + before + after - kernel[axis + 1] + 1;
    };
    Padding3d& p = options.padding;
    const Shape result = {size[0], pad(1, p.front, p.back), pad(2, p.top, p.bottom),
                          pad(3, p.left, p.right), kernel[0]};
    const DeviceOperand input = RandomFilm(stream_, random, size, kHalfTypes[random.Integer(0, 1)]);
    const DeviceOperand weight = RandomWeight(stream_, random, kernel);
    const DeviceOperand bias = RandomBias(stream_, random, kernel[0]);
    const DeviceOperand output = RandomFilm(stream_, random, result, RandomFloatType(random));
    Tensor scratch = DeviceBytes(stream_, cuda::Conv3dScratchBytes(size, weight.device, false));
    cuda::Conv3d(stream_, input.device, weight.device, bias.device, options, scratch,
                 output.device);
    reference::Conv3d(context_, input.host, weight.host, bias.host, options, output.host);
    EXPECT_LT(output.Error(stream_), Tolerance(output));
  }
}

// The reference sees the normalised film as the device stores it: rounded.
TEST_F(CudaConvolution, Conv3dNormalisesItsInput) {
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    const Shape size = {random.Integer(1, 2), random.Integer(1, 3), random.Integer(1, 6),
                        random.Integer(1, 9), RandomChannels(random)};
    const DType dtype = kHalfTypes[random.Integer(0, 1)];
    const DeviceOperand input = RandomFilm(stream_, random, size, dtype);
    const DeviceOperand weight = RandomWeight(stream_, random, {24, size[4], 1, 3, 3});
    const Shape gains = {size[0], random.Coin() ? 1 : size[1], size[4]};
    const auto coefficients = [&] {
      return MakeOperand(stream_, random, gains, DType::kF32, 1, 0, Layout::kContiguous);
    };
    const DeviceOperand gain = coefficients(), offset = coefficients();
    Conv3dOptions options{.padding = {0, 0, 1, 1, 1, 1},
                          .accumulate = random.Coin(),
                          .input_gain = gain.device,
                          .input_offset = offset.device,
                          .input_silu = random.Coin()};
    const DeviceOperand output = RandomFilm(
        stream_, random, {size[0], size[1], size[2], size[3], 24}, RandomFloatType(random));
    Tensor scratch = DeviceBytes(stream_, cuda::Conv3dScratchBytes(size, weight.device, true));
    cuda::Conv3d(stream_, input.device, weight.device, {}, options, scratch, output.device);

    Tensor normalised(size, DType::kF32);
    for (int64_t t = 0; t < size[1]; ++t) {
      const int64_t g = gains[1] == 1 ? 0 : t;
      const Tensor frame_gain = Tensor::CopyOf(gain.host.Select(1, g));
      const Tensor frame_offset = Tensor::CopyOf(offset.host.Select(1, g));
      reference::ScaleShiftChannels(context_, input.host.Select(1, t), frame_gain, frame_offset,
                                    options.input_silu, normalised.view().Select(1, t));
    }
    normalised = ToFloat32(Rounded(normalised.view(), dtype));
    options.input_gain = options.input_offset = {};
    reference::Conv3d(context_, normalised, weight.host, {}, options, output.host);
    // A value halfway between two may be rounded to the other one.
    EXPECT_LT(output.Error(stream_), Tolerance(output) + RoundingOf(dtype));
  }
}

TEST_F(CudaConvolution, UpsampleConv3dMatchesReferenceOverRandomShapes) {
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    const Shape size = {random.Integer(1, 2), random.Integer(1, 3), random.Integer(1, 4),
                        random.Integer(1, 7), RandomChannels(random)};
    const UpsampleConv3dOptions options{
        .doubles_frames = random.Coin(),
        .padding = random.Coin() ? PaddingMode::kZeros : PaddingMode::kReplicate};
    const Shape kernel = {RandomOutputs(random), size[4], random.Integer(1, 3), 3, 3};
    const DeviceOperand input = RandomFilm(stream_, random, size, kHalfTypes[random.Integer(0, 1)]);
    const DeviceOperand weight = RandomWeight(stream_, random, kernel);
    const DeviceOperand bias = RandomBias(stream_, random, kernel[0]);
    const DeviceOperand output =
        RandomFilm(stream_, random,
                   {size[0], UpsampledFrames(size[1], options.doubles_frames), 2 * size[2],
                    2 * size[3], kernel[0]},
                   RandomFloatType(random));
    Tensor scratch = DeviceBytes(stream_, cuda::UpsampleConv3dScratchBytes(weight.device));
    cuda::UpsampleConv3d(stream_, input.device, weight.device, bias.device, options, scratch,
                         output.device);
    reference::UpsampleConv3d(context_, input.host, weight.host, bias.host, options, output.host);
    EXPECT_LT(output.Error(stream_), Tolerance(output));
  }
}

TEST_F(CudaConvolution, PicturesAreFilmsOfOneFrame) {
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    const Shape size = {random.Integer(1, 3), random.Integer(2, 5), random.Integer(2, 9),
                        RandomChannels(random)};
    const int64_t side = random.Coin() ? 3 : 1;
    const DeviceOperand input =
        MakeOperand(stream_, random, size, kHalfTypes[seed % 2], 1, 0, Layout::kContiguous);
    const DeviceOperand weight = RandomWeight(stream_, random, {16, size[3], side, side});
    const DeviceOperand bias = RandomBias(stream_, random, 16);
    const Conv2dOptions options{.padding = {side / 2, side / 2, side / 2, side / 2}};
    const DeviceOperand output = MakeOperand(stream_, random, {size[0], size[1], size[2], 16},
                                             RandomFloatType(random), 1, 0, Layout::kContiguous);
    Tensor scratch = DeviceBytes(stream_, cuda::Conv2dScratchBytes(size, weight.device, false));
    cuda::Conv2d(stream_, input.device, weight.device, bias.device, options, scratch,
                 output.device);
    reference::Conv2d(context_, input.host, weight.host, bias.host, options, output.host);
    EXPECT_LT(output.Error(stream_), Tolerance(output));
    if (side == 1) continue;

    const DeviceOperand enlarged =
        MakeOperand(stream_, random, {size[0], 2 * size[1], 2 * size[2], 16},
                    RandomFloatType(random), 1, 0, Layout::kContiguous);
    cuda::UpsampleConv2d(stream_, input.device, weight.device, bias.device, scratch,
                         enlarged.device);
    reference::UpsampleConv2d(context_, input.host, weight.host, bias.host, enlarged.host);
    EXPECT_LT(enlarged.Error(stream_), Tolerance(enlarged));
  }
}

TEST_F(CudaConvolution, ErrorsNameTheArgument) {
  const auto message = [&](const Shape& size, DType dtype, int64_t scratch_bytes,
                           bool is_scaled = false) {
    const Tensor input = ToDevice(stream_, Tensor::Zeros(size, dtype).view());
    const Tensor weight = ToDevice(stream_, Tensor::Zeros({8, 16, 1, 1, 1}, DType::kF32).view());
    Tensor output = ToDevice(stream_, Tensor::Zeros({1, 1, 4, 4, 8}, DType::kBF16).view());
    Tensor scratch = cuda::DeviceTensor({scratch_bytes}, DType::kU8, stream_.device().index);
    const Tensor gain = ToDevice(stream_, Tensor::Zeros({1, 1, size[4]}, DType::kF32).view());
    Conv3dOptions options;
    if (is_scaled) options.input_gain = options.input_offset = gain;
    return ErrorOf(
        [&] { cuda::Conv3d(stream_, input.view(), weight.view(), {}, options, scratch, output); });
  };
  using ::testing::HasSubstr;
  EXPECT_EQ(message({1, 1, 4, 4, 16}, DType::kBF16, 1024), "");
  EXPECT_THAT(message({1, 1, 4, 4, 16}, DType::kF32, 1024),
              HasSubstr("conv3d: input: expected f16 or bf16"));
  EXPECT_THAT(message({1, 1, 4, 4, 12}, DType::kBF16, 1024, /*is_scaled=*/true),
              HasSubstr("conv3d: input: channels: expected a multiple of 8, found 12"));
  EXPECT_THAT(message({1, 1, 4, 4, 16}, DType::kBF16, 64), HasSubstr("conv3d: scratch: bytes"));
}

TEST_F(CudaConvolution, RefusesOutputsOfOtherShapes) {
  Context device(kPlacement, 1);
  const Tensor input = ToDevice(stream_, Tensor::Zeros({1, 1, 4, 5, 16}, DType::kBF16).view());
  const Tensor weight = ToDevice(stream_, Tensor::Zeros({8, 16, 1, 1, 1}, DType::kF32).view());
  Tensor output = ToDevice(stream_, Tensor::Zeros({1, 1, 4, 4, 8}, DType::kBF16).view());
  try {
    Conv3d(device, input.view(), weight.view(), {}, {}, output);
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(),
                ::testing::HasSubstr("conv3d: output: expected shape [1, 1, 4, 5, 8]"));
  }
}

}  // namespace
}  // namespace tamias
