// Films of every family with everything on a GPU (text and picture encoders, transformer, decoder)
// against the CPU's, dense and accelerated: what differs is that activations have 16 bits there.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "tamias/pipeline.h"
#include "tests/support/compare_tensors.h"
#include "tests/support/device_test.h"
#include "tests/support/linked_model.h"

namespace tamias {
namespace {

// A model folder, and the overrides of its family's profile with which so few tokens are sparse.
class CudaFilmPipeline : public OnGpu<LinkedModelTest> {
 protected:
  CudaFilmPipeline() : OnGpu("gpu-film") {}

  static GenerateOptions Options() {
    GenerateOptions options;
    options.prompt = "a small blue star at the top left and a large yellow ring";
    options.negative_prompt = "a grey background";
    options.true_cfg_scale = 3;
    options.width = options.height = 32;
    options.num_frames = 5;
    options.steps = 3;
    options.max_sequence_length = 40;
    options.seed = 11;
    options.sparsity = "off";
    return options;
  }

  // Full steps 0 and 1, a sparse one after, of attention and MLP, in both calls of a step; latents
  // alone, for the dense film has been decoded.
  static GenerateOptions Accelerated(GenerateOptions options, const char* profile) {
    options.decode = false;
    options.num_frames = 4 * (*options.num_frames - 1) + 1;  // enough tokens to leave some out
    options.sparsity = profile;
    options.overrides = kSparseFilm;
    options.overrides.insert(options.overrides.end(), {"attn.random_keys=0", "mlp.random_keys=0"});
    return options;
  }

  struct Outcome {
    double psnr = 1e9;       // of the worst frame
    double relative_l2 = 0;  // of the latents
    GenerateResult on_gpu;
  };
  static Outcome Compare(const fs::path& folder, GenerateOptions options) {
    const Pipeline pipeline(folder);
    const GenerateResult on_cpu = pipeline.Generate(options);
    options.device = "cuda";
    Outcome outcome;
    outcome.on_gpu = pipeline.Generate(options);
    for (size_t film = 0; film < on_cpu.videos.size(); ++film) {
      const auto& expected = on_cpu.videos[film].frames;
      const auto& frames = outcome.on_gpu.videos.at(film).frames;
      EXPECT_EQ(frames.size(), expected.size());
      for (size_t i = 0; i < expected.size(); ++i) {
        outcome.psnr = std::min(outcome.psnr, Psnr(frames.at(i), expected[i]));
      }
    }
    outcome.relative_l2 =
        RelativeL2(outcome.on_gpu.latents.at(0).values, on_cpu.latents.at(0).values);
    const auto report = nlohmann::json::parse(outcome.on_gpu.report_json);
    EXPECT_EQ(report.at("device"), "cuda:0");
    return outcome;
  }

  // Dense and accelerated.
  static void ExpectTheCpus(const fs::path& folder, const GenerateOptions& options,
                            const char* profile) {
    const Outcome dense = Compare(folder, options);
    EXPECT_GT(dense.psnr, 45);
    EXPECT_LT(dense.relative_l2, 2e-2);
    const Outcome accelerated = Compare(folder, Accelerated(options, profile));
    EXPECT_LT(accelerated.relative_l2, 5e-2);
    EXPECT_GT(accelerated.on_gpu.attention_sparsity, 0.05);
    EXPECT_GT(accelerated.on_gpu.mlp_sparsity, 0.05);
    RecordProperty("outcome", fmt::format("{} dB, latents {}, accelerated {} at {} and {}",
                                          dense.psnr, dense.relative_l2, accelerated.relative_l2,
                                          accelerated.on_gpu.attention_sparsity,
                                          accelerated.on_gpu.mlp_sparsity));
  }
};

TEST_F(CudaFilmPipeline, WanMakesTheCpusFilm) {
  LinkWan("tiny-wan");
  ExpectTheCpus(folder_, Options(), "wan-2.1");
}

TEST_F(CudaFilmPipeline, WanMakesTheCpusFilmOfAPicture) {
  LinkWan("tiny-wan-image");
  LinkAll({"image_encoder", "image_processor"}, kTinyPipelines / "tiny-wan-image");
  GenerateOptions options = Options();
  options.image = ReadImage(kTinyPipelines / "tiny-wan-image/picture.png");
  ExpectTheCpus(folder_, options, "wan-2.1");
}

// Steps 0 to 2 of 8 are the first transformer's.
TEST_F(CudaFilmPipeline, Wan22MakesTheCpusLatents) {
  LinkWan("tiny-wan");
  LinkAll({"model_index.json", "transformer", "transformer_2"}, kTinyPipelines / "tiny-wan-2.2");
  GenerateOptions options = Accelerated(Options(), "wan-2.2");
  options.steps = 8;
  const Outcome outcome = Compare(folder_, options);
  EXPECT_LT(outcome.relative_l2, 5e-2);
  EXPECT_GT(outcome.on_gpu.attention_sparsity, 0.05);
}

TEST_F(CudaFilmPipeline, MochiMakesTheCpusFilm) {
  LinkMochi();
  GenerateOptions options = Options();
  options.num_frames = 7;
  ExpectTheCpus(folder_, options, "mochi");
}

TEST_F(CudaFilmPipeline, MochiTakesAnEmptyNegativePrompt) {
  LinkMochi();
  GenerateOptions options = Options();
  options.negative_prompt = "";
  options.num_frames = 1;
  EXPECT_GT(Compare(folder_, options).psnr, 40);
}

TEST_F(CudaFilmPipeline, HunyuanVideoMakesTheDemosFilm) {
  GenerateOptions options = Options();
  ExpectTheCpus(fs::path(TAMIAS_SOURCE_DIR) / "models/demo-video", options, "demo-video");
}

}  // namespace
}  // namespace tamias
