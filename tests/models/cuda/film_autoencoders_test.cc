// The autoencoders of the film families on a GPU against the same on the CPU: whole, in tiles, and
// what they take of memory. Activations are bf16 there, some twenty roundings one behind another.
#include "models/autoencoders/autoencoder_kl_wan_encoder.h"
#include "tests/support/device_test.h"
#include "tests/support/placed_decoders.h"

namespace tamias {
namespace {

class CudaFilmAutoencoder : public CudaTest {};

TEST_F(CudaFilmAutoencoder, WanDecodesAsTheCpu) { ExpectTheF32FilmOfWan(kPlacement, {}); }

TEST_F(CudaFilmAutoencoder, WanDecodesTheSameTilesAsTheCpu) {
  ExpectTheF32FilmOfWan(kPlacement, kSmallTiles);
}

TEST_F(CudaFilmAutoencoder, MochiDecodesAsTheCpu) { ExpectTheF32FilmOfMochi(kPlacement); }

TEST_F(CudaFilmAutoencoder, HunyuanVideoDecodesTheSameTilesOfFramesAsTheCpu) {
  ExpectTheF32FilmOfHunyuanVideo(kPlacement);
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
  EXPECT_LT(error, kDecoderTolerance);

  Context planning = Context::Planning(kPlacement, 1);
  AutoencoderKlWanEncoder(config, weights.CopyToDevice(planning))
      .Encode(planning, {}, TensorView::WithoutMemory(shape, DType::kF32, {}));
  ExpectPlanned(planning.workspace().peak_bytes(), gpu, gpu.workspace().peak_bytes());
}

}  // namespace
}  // namespace tamias
