// The transformers of the film families on a GPU against the same on the CPU, with weights that are
// equal to the bit: what differs is that activations have 16 bits there.
#include "models/transformers/hunyuan_video_transformer.h"
#include "models/transformers/mochi_transformer.h"
#include "models/transformers/rotary_positions.h"
#include "models/transformers/wan_transformer.h"
#include "tamias/device_memory.h"
#include "tamias/sparsity/sparse_session.h"
#include "tests/support/device_test.h"
#include "tests/support/dry_run_case.h"
#include "tests/support/fixture.h"
#include "tests/support/transformer_case.h"

namespace tamias {
namespace {

const std::filesystem::path kTinyModels = std::filesystem::path(TAMIAS_TEST_DATA) / "pipeline";

constexpr TokenGrid kGrid = {.time = 3, .height = 4, .width = 5};
constexpr int64_t kTextTokens = 13;

// Random tensors of the host, and what of them lies on a context's device.
class RandomInputs {
 public:
  explicit RandomInputs(Context& context) : context_(context) {}
  ConstTensorView operator()(const Shape& shape) {
    host_.push_back(RandomTensor(shape, 1 + host_.size()));
    return OnDevice(context_, host_.back());
  }
  Context& context() { return context_; }

 private:
  Context& context_;
  std::vector<Tensor> host_;
};

// A family: its model, config and inputs. What Inputs() gives lies on the context's device and is
// valid in the caller's workspace scope.
struct Wan {
  using Model = WanTransformer;
  using Config = WanTransformerConfig;
  static WanTransformerInputs Inputs(RandomInputs& random, const Model& model) {
    const Config& config = model.config();
    const RotaryTable rotary = RotaryPositions(
        random.context(), TokenCoordinates(kGrid, TokenOrder::RowOrder(kGrid.size())),
        config.RotaryAxes());
    WanTransformerInputs inputs{
        .hidden_states = random({1, kGrid.size(), config.in_channels * config.patch_elements()}),
        .encoder_hidden_states = random({1, kTextTokens, config.text_dim}),
        .timestep = 700,
        .rotary_cos = rotary.cos,
        .rotary_sin = rotary.sin};
    if (config.takes_image()) {
      inputs.encoder_hidden_states_image = random({1, 5, config.image_dim});
    }
    return inputs;
  }
  static int64_t Channels(const Config& config) {
    return config.out_channels * config.patch_elements();
  }
};

struct Mochi {
  using Model = MochiTransformer;
  using Config = MochiTransformerConfig;
  static MochiTransformerInputs Inputs(RandomInputs& random, const Model& model) {
    const Config& config = model.config();
    const RotaryTable rotary =
        model.RotaryPositions(random.context(), kGrid, TokenOrder::RowOrder(kGrid.size()).tokens());
    return {.hidden_states = random({1, kGrid.size(), config.in_channels * config.patch_area()}),
            .encoder_hidden_states = random({1, kTextTokens, config.text_embed_dim}),
            .timestep = 300,
            .rotary_cos = rotary.cos,
            .rotary_sin = rotary.sin};
  }
  static int64_t Channels(const Config& config) {
    return config.out_channels * config.patch_area();
  }
};

struct HunyuanVideo {
  using Model = HunyuanVideoTransformer;
  using Config = HunyuanVideoTransformerConfig;
  static HunyuanVideoTransformerInputs Inputs(RandomInputs& random, const Model& model) {
    const Config& config = model.config();
    const RotaryTable rotary = RotaryPositions(
        random.context(), TokenCoordinates(kGrid, TokenOrder::RowOrder(kGrid.size())),
        config.rope_axes_dim, config.rope_theta);
    return {
        .hidden_states = random({1, kGrid.size(), config.in_channels * config.patch_elements()}),
        .encoder_hidden_states = random({1, kTextTokens, config.text_embed_dim}),
        .pooled_projections = random({1, config.pooled_projection_dim}),
        .timestep = 700,
        .guidance = 6,
        .rotary_cos = rotary.cos,
        .rotary_sin = rotary.sin};
  }
  static int64_t Channels(const Config& config) {
    return config.out_channels * config.patch_elements();
  }
};

// A dense prediction on the device of the context.
template <typename Family>
Tensor Predict(Context& context, const JsonObject& json, const Weights& weights) {
  const typename Family::Model model(Family::Config::FromJson(json), weights.CopyToDevice(context));
  Workspace::Scope scope(context.workspace());
  Tensor prediction =
      TensorOn(context, {1, kGrid.size(), Family::Channels(model.config())}, DType::kF32);
  const auto session = SparseSession::Dense();
  RandomInputs random(context);
  model.Forward(context, Family::Inputs(random, model), session->invocation(0), prediction);
  return CopyToHost(context, prediction);
}

class CudaFilmTransformer : public CudaTest {
 protected:
  template <typename Family>
  static void ExpectTheCpus(const std::filesystem::path& folder) {
    const JsonObject json = JsonObject::Load(folder / "config.json");
    const Weights weights = Weights::Open(folder);
    Context cpu(1);
    const Tensor expected = Predict<Family>(cpu, json, weights);
    for (const auto& [dtype, tolerance] : {std::pair{DType::kBF16, 2e-2}, {DType::kF16, 2.5e-3}}) {
      SCOPED_TRACE(Name(dtype));
      const Placement placement = {{DeviceType::kCuda, 0}, dtype};
      Context gpu(placement, 1);
      const double error = RelativeL2(Predict<Family>(gpu, json, weights), expected);
      RecordProperty(std::string(Name(dtype)), std::to_string(error));
      EXPECT_LT(error, tolerance);
      const size_t planned = PlannedWorkspace(
          placement, 1, [&](Context& context) { Predict<Family>(context, json, weights); });
      ExpectPlanned(planned, gpu, gpu.workspace().peak_bytes());
    }
  }
};

TEST_F(CudaFilmTransformer, WanPredictsAsOnTheCpu) {
  ExpectTheCpus<Wan>(kTinyModels / "tiny-wan/transformer");
}

TEST_F(CudaFilmTransformer, WanOfAPicturePredictsAsOnTheCpu) {
  ExpectTheCpus<Wan>(kTinyModels / "tiny-wan-image/transformer");
}

TEST_F(CudaFilmTransformer, MochiPredictsAsOnTheCpu) {
  ExpectTheCpus<Mochi>(kTinyModels / "tiny-mochi/transformer");
}

TEST_F(CudaFilmTransformer, HunyuanVideoPredictsAsOnTheCpu) {
  ExpectTheCpus<HunyuanVideo>(std::filesystem::path(TAMIAS_SOURCE_DIR) /
                              "models/demo-video/transformer");
}

}  // namespace
}  // namespace tamias
