// The autoencoders of the film families on a GPU against the same on the CPU: whole, in tiles, and
// what they take of memory. Activations are bf16 there, some twenty roundings one behind another.
#include "models/autoencoders/autoencoder_kl_hunyuan_video.h"
#include "models/autoencoders/autoencoder_kl_mochi.h"
#include "models/autoencoders/autoencoder_kl_wan.h"
#include "models/autoencoders/autoencoder_kl_wan_encoder.h"
#include "tests/support/device_test.h"
#include "tests/support/dry_run_case.h"
#include "tests/support/film_decoder.h"
#include "tests/support/fixture.h"

namespace tamias {
namespace {

const std::filesystem::path kTinyModels = std::filesystem::path(TAMIAS_TEST_DATA) / "pipeline";

constexpr double kTolerance = 2e-2;

class CudaFilmAutoencoder : public CudaTest {
 protected:
  // A model of a folder, decoding random latents.
  template <typename Vae, typename Config, typename Tiling>
  static void ExpectTheCpusFilm(const std::filesystem::path& folder, const Shape& shape,
                                const Tiling& tiling) {
    const Config config = Config::FromJson(JsonObject::Load(folder / "config.json"));
    const Weights weights = Weights::Open(folder);
    const Tensor latents = RandomTensor(shape, 1);
    Context cpu(1), gpu(kPlacement, 1);
    const Tensor expected = DecodeFilm(Vae(config, weights, tiling), cpu, latents);
    const Vae vae(config, weights.CopyToDevice(gpu), tiling);
    const double error = RelativeL2(DecodeFilm(vae, gpu, latents), expected);
    RecordProperty("error", std::to_string(error));
    EXPECT_LT(error, kTolerance);

    Context planning = Context::Planning(kPlacement, 1);
    const Vae planned(config, weights.CopyToDevice(planning), tiling);
    planned.Decode(planning, TensorView::WithoutMemory(latents.shape(), DType::kF32, {}), {});
    ExpectPlanned(planning.workspace().peak_bytes(), gpu, gpu.workspace().peak_bytes());
    ExpectPlanned(planning.host_workspace().peak_bytes(), gpu, gpu.host_workspace().peak_bytes());
  }
};

TEST_F(CudaFilmAutoencoder, WanDecodesAsTheCpu) {
  ExpectTheCpusFilm<AutoencoderKlWan, AutoencoderKlWanConfig>(kTinyModels / "tiny-wan/vae",
                                                              {2, 3, 5, 4}, FrameTiling{});
}

TEST_F(CudaFilmAutoencoder, WanDecodesTheSameTilesAsTheCpu) {
  ExpectTheCpusFilm<AutoencoderKlWan, AutoencoderKlWanConfig>(kTinyModels / "tiny-wan/vae",
                                                              {2, 3, 5, 4}, kSmallTiles);
}

TEST_F(CudaFilmAutoencoder, MochiDecodesAsTheCpu) {
  ExpectTheCpusFilm<AutoencoderKlMochi, AutoencoderKlMochiConfig>(kTinyModels / "tiny-mochi/vae",
                                                                  {2, 2, 3, 12}, FrameTiling{});
}

TEST_F(CudaFilmAutoencoder, HunyuanVideoDecodesTheSameTilesOfFramesAsTheCpu) {
  ExpectTheCpusFilm<AutoencoderKlHunyuanVideo, AutoencoderKlHunyuanVideoConfig>(
      std::filesystem::path(TAMIAS_SOURCE_DIR) / "models/demo-video/vae", {3, 2, 2, 16},
      AutoencoderKlHunyuanVideoTiling{.tile_frames = 2, .frame_overlap = 1, .space = {}});
}

TEST_F(CudaFilmAutoencoder, WanEncodesAsTheCpu) {
  const std::filesystem::path folder = kTinyModels / "tiny-wan-image/vae";
  const auto config = AutoencoderKlWanConfig::FromJson(JsonObject::Load(folder / "config.json"));
  const Weights weights = Weights::Open(folder);
  const Tensor film = RandomTensor({5, 8, 16, 3}, 1);
  const FrameSource source = [&](int64_t frame, TensorView pixels) {
    CopyOnHost(film.view().Slice(0, frame, frame + 1), pixels);
  };
  const Shape shape = {2, 1, 2, config.z_dim};
  Tensor expected(shape, DType::kF32), encoded(shape, DType::kF32);
  Context cpu(1), gpu(kPlacement, 1);
  AutoencoderKlWanEncoder(config, weights).Encode(cpu, source, expected);
  AutoencoderKlWanEncoder(config, weights.CopyToDevice(gpu)).Encode(gpu, source, encoded);
  const double error = RelativeL2(encoded, expected);
  RecordProperty("error", std::to_string(error));
  EXPECT_LT(error, kTolerance);

  Context planning = Context::Planning(kPlacement, 1);
  AutoencoderKlWanEncoder(config, weights.CopyToDevice(planning))
      .Encode(planning, {}, TensorView::WithoutMemory(shape, DType::kF32, {}));
  ExpectPlanned(planning.workspace().peak_bytes(), gpu, gpu.workspace().peak_bytes());
}

}  // namespace
}  // namespace tamias
