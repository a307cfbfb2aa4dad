// The autoencoder's decoder of the demo model: time, and GB of workspace as planned and as taken.
// Run it where the model folder lies: it reads models/demo-flux/vae.
#include "io/json.h"
#include "models/autoencoders/autoencoder_kl.h"
#include "rates.h"

namespace tamias {
namespace {

void BM_Decode(benchmark::State& state) {
  const std::filesystem::path folder = "models/demo-flux/vae";
  if (!std::filesystem::exists(folder)) {
    state.SkipWithError("models/demo-flux/vae: not found below the working directory");
    return;
  }
  const AutoencoderKl vae(AutoencoderKlConfig::FromJson(JsonObject::Load(folder / "config.json")),
                          Weights::Open(folder));
  const int64_t pixels = state.range(0), size = pixels / vae.config().spatial_scale();
  Context context;
  const Tensor latents = bench::Noise({1, size, size, vae.config().latent_channels});
  Tensor picture({1, pixels, pixels, vae.config().out_channels}, DType::kF32);
  vae.Decode(context, latents, picture);
  for (auto _ : state) vae.Decode(context, latents, picture);
  state.counters["workspace_gb"] = static_cast<double>(context.workspace().peak_bytes()) * 1e-9;
  state.counters["planned_gb"] = static_cast<double>(vae.PlanBytes(size, size)) * 1e-9;
}
BENCHMARK(BM_Decode)
    ->ArgName("pixels")
    ->Arg(512)
    ->Arg(1024)
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();

}  // namespace
}  // namespace tamias
