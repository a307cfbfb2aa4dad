// Every scheduler class that is served, as each family's pipeline in diffusers uses it, against
// diffusers; and the classes and fields that are refused.
#include "models/schedulers/scheduler_factory.h"

#include <fmt/format.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "models/schedulers/flow_match_euler.h"
#include "tamias/error.h"
#include "tamias/random.h"
#include "tests/support/fixture.h"

namespace tamias {
namespace {

using testing::HasSubstr;

constexpr int64_t kTokens = 1024;  // of the recorded cases

const SchedulerConventions kFlux = {
    .sigmas = EvenSigmas, .leaves_flow_sigmas = true, .shifts_by_tokens = true};
const SchedulerConventions kHunyuanVideo = {.sigmas = EvenSigmasToZero};
const SchedulerConventions kWan = {};
const SchedulerConventions kMochi = {.sigmas = EvenSigmas, .is_inverted = true};

SchedulerConventions ConventionsOf(const std::string& family) {
  if (family == "FluxPipeline") return kFlux;
  return family == "WanPipeline" ? kWan : kHunyuanVideo;
}

JsonObject Index(const std::string& family, const std::string& class_name) {
  return JsonObject::Parse(
      fmt::format(R"({{"_class_name": "{}", "scheduler": ["diffusers", "{}"]}})", family,
                  class_name),
      "model_index.json");
}

JsonObject Config(const std::string& fields) {
  return JsonObject::Parse("{" + fields + "}", "scheduler_config.json");
}

class SchedulerParity : public testing::Test {
 protected:
  // The name of every recorded case.
  std::vector<std::string> Names() const { return cases_.Keys(); }

  SchedulerFactory Factory(const std::string& name) const {
    const JsonObject recorded = cases_.Object(name);
    const std::string family = recorded.String("family");
    return SchedulerFactory::Read(Index(family, recorded.String("class")),
                                  recorded.Object("config"), ConventionsOf(family));
  }

  bool Has(const std::string& name, int steps) const {
    return tensors_.Has(fmt::format("{}.{}.result", name, steps));
  }
  ConstTensorView Get(const std::string& name, int steps, const char* what) const {
    return tensors_.Get(fmt::format("{}.{}.{}", name, steps, what));
  }

  const JsonObject cases_ = JsonObject::Load(FixtureFolder("schedulers") / "cases.json");
  const SafetensorsFile tensors_{FixtureFolder("schedulers") / "cases.safetensors"};
};

constexpr int kStepCounts[] = {1, 2, 5, 20};

TEST_F(SchedulerParity, SigmasAndTimestepsAgreeWithDiffusers) {
  constexpr float kTolerance = 3e-7f;  // a few units in the last place of fp32
  for (const std::string& name : Names()) {
    const SchedulerFactory factory = Factory(name);
    for (const int steps : kStepCounts) {
      if (!Has(name, steps)) continue;
      SCOPED_TRACE(fmt::format("{}, {} steps", name, steps));
      const auto scheduler = factory.Make(steps, kTokens);
      const ConstTensorView sigmas = Get(name, steps, "sigmas");
      const ConstTensorView timesteps = Get(name, steps, "timesteps");
      ASSERT_EQ(scheduler->num_steps(), timesteps.NumElements());
      for (int i = 0; i < scheduler->num_steps(); ++i) {
        EXPECT_NEAR(scheduler->sigma(i), sigmas.data<float>()[i], kTolerance);
        EXPECT_NEAR(scheduler->timestep(i), timesteps.data<float>()[i], 1000 * kTolerance);
      }
      const float last = sigmas.data<float>()[scheduler->num_steps()];
      EXPECT_NEAR(scheduler->sigma(scheduler->num_steps()), last, kTolerance);
    }
  }
}

TEST_F(SchedulerParity, StepsAgreeWithDiffusers) {
  Context context;
  int compared = 0;
  for (const std::string& name : Names()) {
    const SchedulerFactory factory = Factory(name);
    for (const int steps : kStepCounts) {
      if (!Has(name, steps)) continue;
      SCOPED_TRACE(fmt::format("{}, {} steps", name, steps));
      TorchGenerator generator(3);
      const auto scheduler = factory.Make(steps, kTokens, [&](TensorView noise) {
        generator.Normal({noise.data<float>(), static_cast<size_t>(noise.NumElements())});
      });
      Tensor sample = Tensor::CopyOf(tensors_.Get("sample"));
      for (int i = 0; i < scheduler->num_steps(); ++i) {
        scheduler->Step(context, i, tensors_.Get("predictions").Select(0, i), sample);
      }
      // diffusers computes the weights of multistep solvers in fp32, where a step of h loses 1 /
      // h^2 units in the last place (order 3: 1 / h^3); here it is double.
      EXPECT_LT(RelativeL2(sample, Get(name, steps, "result")), 2e-5);
      ++compared;
    }
  }
  EXPECT_GT(compared, 100);
}

TEST_F(SchedulerParity, StepsKeepAndDrawWhatTheyPlan) {
  const std::map<std::string, size_t> kept = {
      {"euler-karras", 0}, {"euler-stochastic", 1}, {"heun", 2},
      {"lcm", 1},          {"unipc-order1", 3},     {"unipc-order3", 5},
      {"dpm-order1", 1},   {"dpm-order3", 3},       {"dpm-sde-order2", 3}};
  for (const auto& [name, tensors] : kept) {
    SCOPED_TRACE(name);
    const auto scheduler = Factory(name).Make(4, kTokens);
    EXPECT_EQ(scheduler->HistoryBytes(1000), 4000 * tensors);
    const bool draws = name == "euler-stochastic" || name == "lcm" || name == "dpm-sde-order2";
    EXPECT_EQ(scheduler->DrawsNoise(), draws);
  }
}

// Straight paths: with the velocity of a line from noise to a result every solver ends there.
TEST_F(SchedulerParity, EverySolverFollowsAStraightPathToItsEnd) {
  Context context;
  Tensor target = Tensor::CopyOf(tensors_.Get("sample"));
  for (const std::string& name : Names()) {
    SCOPED_TRACE(name);
    const auto scheduler = Factory(name).Make(8, kTokens, [](TensorView noise) {
      std::fill_n(noise.data<float>(), noise.NumElements(), 0.5f);
    });
    if (scheduler->sigma(scheduler->num_steps()) != 0) continue;
    Tensor sample = Tensor::Zeros(target.shape(), DType::kF32);
    Tensor velocity(target.shape(), DType::kF32);
    for (int i = 0; i < scheduler->num_steps(); ++i) {
      const float* x = sample.data<float>();
      for (int64_t j = 0; j < target.NumElements(); ++j) {
        velocity.data<float>()[j] = (x[j] - target.data<float>()[j]) / scheduler->sigma(i);
      }
      scheduler->Step(context, i, velocity, sample);
    }
    EXPECT_LT(RelativeL2(sample, target), 1e-5);
  }
}

// The message of the refusal; empty without one.
std::string RefusalOf(const JsonObject& index, const JsonObject& config,
                      const SchedulerConventions& conventions) {
  try {
    SchedulerFactory::Read(index, config, conventions);
  } catch (const Error& error) {
    EXPECT_THAT(error.code(), testing::AnyOf(ErrorCode::kUnsupported, ErrorCode::kInvalidFile));
    return error.what();
  }
  return "";
}

TEST(SchedulerFactory, RefusesOtherClassesWithThoseServed) {
  for (const char* name :
       {"EulerDiscreteScheduler", "DDIMScheduler", "DDPMScheduler", "FlowMatchEulerDiscrete",
        "Flax", "", "flowmatcheulerdiscretescheduler"}) {
    const std::string refusal = RefusalOf(Index("WanPipeline", name), Config(""), kWan);
    EXPECT_THAT(refusal, HasSubstr(std::string(name) + " is not served in WanPipeline"));
    EXPECT_THAT(refusal, HasSubstr("model_index.json: field 'scheduler'"));
    for (const char* served :
         {"FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler",
          "FlowMatchLCMScheduler", "UniPCMultistepScheduler", "DPMSolverMultistepScheduler"}) {
      EXPECT_THAT(refusal, HasSubstr(served));
    }
    EXPECT_EQ(refusal.find('\n'), std::string::npos);
  }
}

TEST(SchedulerFactory, RefusesWhatAFamilysPipelineCannotRun) {
  struct Case {
    const char* family;
    const SchedulerConventions& conventions;
    std::vector<const char*> classes;
  };
  const Case cases[] = {
      {"FluxPipeline", kFlux, {"FlowMatchHeunDiscreteScheduler"}},
      {"HunyuanVideoPipeline",
       kHunyuanVideo,
       {"FlowMatchHeunDiscreteScheduler", "DPMSolverMultistepScheduler"}},
      {"MochiPipeline",
       kMochi,
       {"FlowMatchHeunDiscreteScheduler", "DPMSolverMultistepScheduler", "FlowMatchLCMScheduler",
        "UniPCMultistepScheduler"}},
  };
  for (const Case& one : cases) {
    for (const char* name : one.classes) {
      const std::string refusal = RefusalOf(Index(one.family, name), Config(""), one.conventions);
      EXPECT_THAT(refusal, HasSubstr(fmt::format("{} is not served in {}", name, one.family)));
      EXPECT_THAT(refusal, HasSubstr("served: FlowMatchEulerDiscreteScheduler"));
      EXPECT_EQ(refusal.find(name, refusal.find("served: ")), std::string::npos);
    }
  }
}

TEST(SchedulerFactory, RefusesEntriesThatNameNoClassOfDiffusers) {
  for (const char* entry : {"null", "[null, null]", "[]", R"(["diffusers"])", "17",
                            R"("FlowMatchEulerDiscreteScheduler")", R"(["diffusers", 3])",
                            R"(["my_module", "FlowMatchEulerDiscreteScheduler"])"}) {
    const JsonObject index = JsonObject::Parse(
        fmt::format(R"({{"_class_name": "WanPipeline", "scheduler": {}}})", entry),
        "model_index.json");
    EXPECT_THAT(RefusalOf(index, Config(""), kWan), HasSubstr("model_index.json: field 'scheduler"))
        << entry;
  }
}

TEST(SchedulerFactory, TheIndexDecidesAndTheConfigsOtherClassIsKnown) {
  const JsonObject config = Config(R"("_class_name": "UniPCMultistepScheduler", "shift": 2)");
  const SchedulerFactory factory =
      SchedulerFactory::Read(Index("WanPipeline", "FlowMatchHeunDiscreteScheduler"), config, kWan);
  EXPECT_EQ(factory.class_name(), "FlowMatchHeunDiscreteScheduler");
  EXPECT_EQ(factory.other_class(), "UniPCMultistepScheduler");
  EXPECT_EQ(factory.Make(3, kTokens)->num_steps(), 5);
  const SchedulerFactory same = SchedulerFactory::Read(
      Index("WanPipeline", "FlowMatchHeunDiscreteScheduler"), Config(""), kWan);
  EXPECT_EQ(same.other_class(), "");
}

constexpr char kFlow[] = R"("prediction_type": "flow_prediction", "use_flow_sigmas": true)";

struct Refused {
  const char* class_name;
  const char* field;   // that the message names
  std::string fields;  // of the config
};

TEST(SchedulerFactory, RefusesByNameWhatWouldChangeTheResult) {
  const auto flow = [](const std::string& fields) { return kFlow + (", " + fields); };
  const auto to_noise = R"("invert_sigmas": true, )";
  const std::string to_sigma_min = flow(R"("final_sigmas_type": "sigma_min", )");
  const std::vector<Refused> cases = {
      {"FlowMatchEulerDiscreteScheduler", "use_beta_sigmas", R"("use_beta_sigmas": true)"},
      {"FlowMatchEulerDiscreteScheduler", "use_exponential_sigmas",
       R"("use_karras_sigmas": true, "use_exponential_sigmas": true)"},
      {"FlowMatchEulerDiscreteScheduler", "use_dynamic_shifting",
       R"("use_dynamic_shifting": true)"},
      {"FlowMatchEulerDiscreteScheduler", "time_shift_type", R"("time_shift_type": "cosine")"},
      {"FlowMatchEulerDiscreteScheduler", "stochastic_sampling",
       to_noise + std::string(R"("stochastic_sampling": true)")},
      {"FlowMatchLCMScheduler", "scale_factors", R"("scale_factors": [0.5, 1])"},
      {"FlowMatchLCMScheduler", "invert_sigmas", R"("invert_sigmas": true)"},
      {"FlowMatchLCMScheduler", "use_beta_sigmas", R"("use_beta_sigmas": true)"},
      {"FlowMatchHeunDiscreteScheduler", "shift", R"("shift": -1)"},
      {"UniPCMultistepScheduler", "prediction_type", R"("use_flow_sigmas": true)"},
      {"UniPCMultistepScheduler", "use_flow_sigmas", R"("prediction_type": "flow_prediction")"},
      {"UniPCMultistepScheduler", "solver_order", flow(R"("solver_order": 4)")},
      {"UniPCMultistepScheduler", "solver_type", flow(R"("solver_type": "bh1")")},
      {"UniPCMultistepScheduler", "solver_type", flow(R"("solver_type": "bh3")")},
      {"UniPCMultistepScheduler", "predict_x0", flow(R"("predict_x0": false)")},
      {"UniPCMultistepScheduler", "lower_order_final", flow(R"("lower_order_final": false)")},
      {"UniPCMultistepScheduler", "lower_order_final",
       to_sigma_min + R"("lower_order_final": false, "solver_order": 3)"},
      {"UniPCMultistepScheduler", "solver_p", flow(R"("solver_p": {})")},
      {"UniPCMultistepScheduler", "disable_corrector", flow(R"("disable_corrector": ["0"])")},
      {"UniPCMultistepScheduler", "use_dynamic_shifting", flow(R"("use_dynamic_shifting": true)")},
      {"DPMSolverMultistepScheduler", "prediction_type",
       R"("use_flow_sigmas": true, "prediction_type": "v_prediction")"},
      {"DPMSolverMultistepScheduler", "use_lu_lambdas", flow(R"("use_lu_lambdas": true)")},
      {"DPMSolverMultistepScheduler", "algorithm_type", flow(R"("algorithm_type": "dpmsolver")")},
      {"DPMSolverMultistepScheduler", "solver_type", flow(R"("solver_type": "rk4")")},
      {"DPMSolverMultistepScheduler", "trained_betas", to_sigma_min + R"("trained_betas": [0.1])"},
      {"DPMSolverMultistepScheduler", "rescale_betas_zero_snr",
       to_sigma_min + R"("rescale_betas_zero_snr": true)"},
      {"DPMSolverMultistepScheduler", "beta_schedule",
       to_sigma_min + R"("beta_schedule": "squaredcos_cap_v2")"},
  };
  for (const Refused& one : cases) {
    EXPECT_THAT(RefusalOf(Index("WanPipeline", one.class_name), Config(one.fields), kWan),
                HasSubstr(fmt::format("scheduler_config.json: field '{}", one.field)))
        << one.class_name << ": " << one.fields;
  }
  for (const char* name : {"UniPCMultistepScheduler", "DPMSolverMultistepScheduler"}) {
    for (const char* field :
         {"thresholding", "use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas"}) {
      EXPECT_THAT(RefusalOf(Index("WanPipeline", name),
                            Config(flow(fmt::format(R"("{}": true)", field))), kWan),
                  HasSubstr(fmt::format("field '{}'", field)));
    }
    EXPECT_THAT(RefusalOf(Index("WanPipeline", name),
                          Config(flow(R"("final_sigmas_type": "sigma_max")")), kWan),
                HasSubstr("field 'final_sigmas_type'"));
  }
}

TEST(SchedulerFactory, DpmSolverInFluxNeedsDynamicShiftingAsInDiffusers) {
  const JsonObject index = Index("FluxPipeline", "DPMSolverMultistepScheduler");
  EXPECT_THAT(RefusalOf(index, Config(kFlow), kFlux), HasSubstr("field 'use_dynamic_shifting'"));
  const std::string dynamic = kFlow + std::string(R"(, "use_dynamic_shifting": true)");
  EXPECT_EQ(RefusalOf(index, Config(dynamic), kFlux), "");
  EXPECT_THAT(RefusalOf(index, Config(dynamic + R"(, "time_shift_type": "linear")"), kFlux),
              HasSubstr("field 'time_shift_type'"));
}

TEST(SchedulerFactory, IgnoresFieldsThatItsClassDoesNotKnow) {
  EXPECT_EQ(
      RefusalOf(Index("WanPipeline", "FlowMatchHeunDiscreteScheduler"),
                Config(R"("use_beta_sigmas": true, "use_dynamic_shifting": true, "x": [])"), kWan),
      "");
  EXPECT_EQ(RefusalOf(Index("WanPipeline", "FlowMatchLCMScheduler"),
                      Config(R"("stochastic_sampling": true, "upscale_mode": "area")"), kWan),
            "");
}

TEST(SchedulerFactory, RefusesNoSteps) {
  const SchedulerFactory factory = SchedulerFactory::Read(
      Index("WanPipeline", "DPMSolverMultistepScheduler"), Config(kFlow), kWan);
  EXPECT_THROW(factory.Make(0, kTokens), Error);
  EXPECT_NO_THROW(factory.Make(1, kTokens));
}

}  // namespace
}  // namespace tamias
