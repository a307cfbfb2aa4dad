// The encoders of texts and pictures on a GPU against the states that transformers computed in fp32
// or against the CPU's. Weights are rounded to 16 bits on the way to the GPU, and so are the
// activations.
#include "models/text/clip_text_encoder.h"

#include <fmt/format.h>

#include "models/text/llama_text_encoder.h"
#include "models/text/t5_encoder.h"
#include "models/vision/clip_vision_encoder.h"
#include "tamias/device_memory.h"
#include "tests/support/device_test.h"
#include "tests/support/dry_run_case.h"
#include "tests/support/fixture.h"

namespace tamias {
namespace {

class CudaTextEncoder : public CudaTest {
 protected:
  // Of the last hidden states and, with CLIP, the pooled ones: the largest error of all cases.
  static double ClipError(const char* name, DType dtype) {
    const Fixture fixture(name);
    Context gpu({{DeviceType::kCuda, 0}, dtype}, 1);
    const ClipTextEncoder clip(ClipTextConfig::FromJson(fixture.config),
                               fixture.weights.CopyToDevice(gpu));
    double error = 0;
    for (const std::string index : {"0.", "1."}) {
      const ConstTensorView expected = fixture.cases.Get(index + "last_hidden_state");
      const ConstTensorView pooled = fixture.cases.Get(index + "pooled");
      Tensor states(expected.shape(), DType::kF32), pooled_states(pooled.shape(), DType::kF32);
      clip.Encode(gpu, fixture.cases.Get(index + "tokens"), states, pooled_states);
      error = std::max({error, RelativeL2(states, expected), RelativeL2(pooled_states, pooled)});
    }
    return error;
  }

  static double T5Error(const char* name, DType dtype) {
    const Fixture fixture(name);
    Context gpu({{DeviceType::kCuda, 0}, dtype}, 1);
    const T5Encoder t5(T5Config::FromJson(fixture.config), fixture.weights.CopyToDevice(gpu));
    double error = 0;
    for (const std::string index : {"0.", "1."}) {
      const ConstTensorView expected = fixture.cases.Get(index + "last_hidden_state");
      Tensor states(expected.shape(), DType::kF32);
      t5.Encode(gpu, fixture.cases.Get(index + "tokens"), states);
      error = std::max(error, RelativeL2(states, expected));
    }
    return error;
  }
};

TEST_F(CudaTextEncoder, ClipAgreesWithTransformers) {
  for (const char* name : {"clip-tiny", "clip-legacy-tiny"}) {
    SCOPED_TRACE(name);
    const double error = ClipError(name, DType::kBF16), fine_error = ClipError(name, DType::kF16);
    RecordProperty(name, fmt::format("bf16 {}, f16 {}", error, fine_error));
    EXPECT_LT(error, 2e-2);
    EXPECT_LT(fine_error, 2.5e-3);
  }
}

// T5 does not scale its scores, so that their rounding weighs more than in CLIP.
TEST_F(CudaTextEncoder, T5AgreesWithTransformers) {
  for (const char* name : {"t5-gated-tiny", "t5-relu-tiny", "umt5-tiny"}) {
    SCOPED_TRACE(name);
    const double error = T5Error(name, DType::kBF16), fine_error = T5Error(name, DType::kF16);
    RecordProperty(name, fmt::format("bf16 {}, f16 {}", error, fine_error));
    EXPECT_LT(error, 5e-2);
    EXPECT_LT(fine_error, 5e-3);
  }
}

// The film demo's, whose weights are f16; its fixtures have heads that GPUs do not take.
TEST_F(CudaTextEncoder, LlamaAgreesWithTheCpu) {
  const auto folder = std::filesystem::path(TAMIAS_SOURCE_DIR) / "models/demo-video/text_encoder";
  const auto config = LlamaTextConfig::FromJson(JsonObject::Load(folder / "config.json"));
  const Weights weights = Weights::Open(folder);
  const std::vector<int32_t> tokens = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2};
  const auto encode = [&](Context& context) {
    return LlamaTextEncoder(config, weights.CopyToDevice(context)).Encode(context, tokens, 2);
  };
  Context cpu(1), gpu(kPlacement, 1);
  const double error = RelativeL2(encode(gpu), encode(cpu));
  RecordProperty("error", std::to_string(error));
  EXPECT_LT(error, 2e-2);
  ExpectPlanned(PlannedWorkspace(kPlacement, 1, encode), gpu, gpu.workspace().peak_bytes());
}

TEST_F(CudaTextEncoder, ClipVisionAgreesWithTheCpu) {
  const auto folder =
      std::filesystem::path(TAMIAS_TEST_DATA) / "pipeline/tiny-wan-image/image_encoder";
  const auto config = ClipVisionConfig::FromJson(JsonObject::Load(folder / "config.json"));
  const Weights weights = Weights::Open(folder);
  const Tensor pixels = RandomTensor({2, config.image_size, config.image_size, 3}, 1);
  const auto encode = [&](Context& context) {
    Tensor hidden = HostTensor(context, {2, config.tokens(), config.hidden_size}, DType::kF32);
    ClipVisionEncoder(config, weights.CopyToDevice(context)).Encode(context, pixels, hidden);
    return hidden;
  };
  Context cpu(1), gpu(kPlacement, 1);
  const double error = RelativeL2(encode(gpu), encode(cpu));
  RecordProperty("error", std::to_string(error));
  EXPECT_LT(error, 2e-2);
  ExpectPlanned(PlannedWorkspace(kPlacement, 1, encode), gpu, gpu.workspace().peak_bytes());
}

TEST_F(CudaTextEncoder, TakeWhatDryRunsTake) {
  const Placement placement = {{DeviceType::kCuda, 0}, DType::kBF16};
  const Tensor tokens = Tensor::Zeros({1, 20}, DType::kI32);
  const auto clip = [&](Context& context) {
    const Fixture fixture("clip-tiny");
    const ClipTextEncoder encoder(ClipTextConfig::FromJson(fixture.config),
                                  fixture.weights.CopyToDevice(context));
    Tensor states = HostTensor(context, {1, 20, 48}, DType::kF32);
    Tensor pooled = HostTensor(context, {1, 48}, DType::kF32);
    encoder.Encode(context, tokens, states, pooled);
  };
  const auto t5 = [&](Context& context) {
    const Fixture fixture("t5-gated-tiny");
    const T5Encoder encoder(T5Config::FromJson(fixture.config),
                            fixture.weights.CopyToDevice(context));
    Tensor states = HostTensor(context, {1, 20, 40}, DType::kF32);
    encoder.Encode(context, tokens, states);
  };
  const auto expect_planned = [&](const auto& encode) {
    Context gpu(placement, 1);
    encode(gpu);
    ExpectPlanned(PlannedWorkspace(placement, 1, encode), gpu, gpu.workspace().peak_bytes());
  };
  expect_planned(clip);
  expect_planned(t5);
}

}  // namespace
}  // namespace tamias
