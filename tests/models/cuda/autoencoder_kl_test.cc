// The autoencoder's decoder on a GPU against the same on the CPU, with weights that are equal to
// the bit: what differs is that films have 16 bits there, some twenty roundings one behind another.
#include "models/autoencoders/autoencoder_kl.h"

#include "tamias/error.h"
#include "tests/support/fixture.h"
#include "tests/support/weights_folder.h"

namespace tamias {
namespace {

// Every kind of layer: 8 latent channels, levels of 16 and 8 channels, attention in the middle.
struct DecoderCase {
  explicit DecoderCase(DType dtype, const KlTiling& tiling = {})
      : weights(folder.Write(RandomWeights(), dtype)),
        cpu_model(Config(), weights, tiling),
        gpu(PlacementOn({DeviceType::kCuda, 0}, weights.MainDType()), 1),
        gpu_model(Config(), weights.CopyToDevice(gpu), tiling) {}

  static AutoencoderKlConfig Config() {
    AutoencoderKlConfig config;
    config.latent_channels = 8;
    config.block_out_channels = {8, 16};
    config.layers_per_block = 1;
    config.norm_num_groups = 4;
    config.use_post_quant_conv = true;
    return config;
  }

  // Random weights whose products keep the size of their inputs.
  static NamedTensors RandomWeights() {
    NamedTensors tensors;
    Random random(1);
    const auto add = [&](const std::string& name, const Shape& weight, float gain) {
      const auto fan_in = static_cast<float>(weight.NumElements() / weight[0]);
      tensors.emplace_back(name + ".weight", random.Normal(weight, gain / std::sqrt(fan_in)));
      tensors.emplace_back(name + ".bias", random.Normal({weight[0]}, 0.1f));
    };
    const auto conv = [&](const std::string& name, int64_t in, int64_t out, int64_t side) {
      add(name, {out, in, side, side}, 1);
    };
    const auto norm = [&](const std::string& name, int64_t channels) {
      add(name, {channels}, 0.2f);
      Tensor& weight = tensors[tensors.size() - 2].second;
      for (int64_t i = 0; i < channels; ++i) weight.data<float>()[i] += 1;
    };
    const auto resnet = [&](const std::string& name, int64_t in, int64_t out) {
      norm(name + ".norm1", in);
      conv(name + ".conv1", in, out, 3);
      norm(name + ".norm2", out);
      conv(name + ".conv2", out, out, 3);
      if (in != out) conv(name + ".conv_shortcut", in, out, 1);
    };
    conv("post_quant_conv", 8, 8, 1);
    conv("decoder.conv_in", 8, 16, 3);
    resnet("decoder.mid_block.resnets.0", 16, 16);
    norm("decoder.mid_block.attentions.0.group_norm", 16);
    for (const char* name : {"to_q", "to_k", "to_v", "to_out.0"}) {
      add(std::string("decoder.mid_block.attentions.0.") + name, {16, 16}, 1);
    }
    resnet("decoder.mid_block.resnets.1", 16, 16);
    resnet("decoder.up_blocks.0.resnets.0", 16, 16);
    resnet("decoder.up_blocks.0.resnets.1", 16, 16);
    conv("decoder.up_blocks.0.upsamplers.0.conv", 16, 16, 3);
    resnet("decoder.up_blocks.1.resnets.0", 16, 8);
    resnet("decoder.up_blocks.1.resnets.1", 8, 8);
    norm("decoder.conv_norm_out", 8);
    conv("decoder.conv_out", 8, 3, 3);
    return tensors;
  }

  // How far the GPU's pictures of random latents are from the CPU's.
  double Error(const Shape& latents_shape) {
    Random random(2);
    const Tensor latents = random.Normal(latents_shape);
    const Shape shape = {latents_shape[0], 2 * latents_shape[1], 2 * latents_shape[2], 3};
    Tensor expected(shape, DType::kF32), actual(shape, DType::kF32);
    Context cpu(1);
    cpu_model.Decode(cpu, latents, expected);
    gpu_model.Decode(gpu, latents, actual);
    return RelativeL2(actual, expected);
  }

  WeightsFolder folder;
  Weights weights;
  AutoencoderKl cpu_model;
  Context gpu;
  AutoencoderKl gpu_model;
};

class CudaAutoencoderKl : public CudaTest {};

TEST_F(CudaAutoencoderKl, DecodesAsTheCpuInBFloat16) {
  const double error = DecoderCase(DType::kBF16).Error({2, 9, 12, 8});
  RecordProperty("error", std::to_string(error));
  EXPECT_LT(error, 2e-2);
}

TEST_F(CudaAutoencoderKl, DecodesAsTheCpuInFloat16) {
  const double error = DecoderCase(DType::kF16).Error({1, 9, 12, 8});
  RecordProperty("error", std::to_string(error));
  EXPECT_LT(error, 2.5e-3);
}

TEST_F(CudaAutoencoderKl, DecodesTheSameTilesAsTheCpu) {
  DecoderCase decoder(DType::kF16, {.tile_size = 6, .overlap = 2, .untiled_bytes = 0});
  EXPECT_GT(decoder.gpu_model.NumTiles(9, 12), 2);
  EXPECT_LT(decoder.Error({1, 9, 12, 8}), 2.5e-3);
}

TEST_F(CudaAutoencoderKl, PlanCoversTheWorkspace) {
  DecoderCase decoder(DType::kBF16);
  decoder.Error({1, 9, 12, 8});
  const size_t planned = decoder.gpu_model.PlanBytes(9, 12, decoder.gpu.placement());
  EXPECT_LE(decoder.gpu.workspace().peak_bytes(), planned);
}

}  // namespace
}  // namespace tamias
