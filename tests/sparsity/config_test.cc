#include "tamias/sparsity/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>

#include "tests/support/errors.h"

namespace tamias {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::filesystem::path TestFile(const char* name) {
  return std::filesystem::path(TAMIAS_TEST_DATA) / "sparsity" / name;
}

// The message of the error that `body` throws, or "".
std::string ParseError(std::string_view text) {
  return ErrorOf([&] { ParseSparsityConfig(text, "my.yml"); }, ErrorCode::kInvalidFile);
}

std::string ApplyError(std::string_view assignment) {
  SparsityConfig config;
  return ErrorOf([&] { Apply(config, assignment); }, ErrorCode::kInvalidArgument);
}

TEST(SparsityConfig, ReadsEveryKeyOfTheReference) {
  const SparsityConfig c = LoadSparsityConfig(TestFile("reference.yml"));
  const SparsityConfig defaults;
  // The file sets each key away from its default; ours are not in it.
  for (const std::string& key : SparsityConfigKeys()) {
    const bool is_ours = key == "attn.merge" || key == "attn.column_sums" ||
                         key == "attn.cache_dtype" || key == "step_caching.threshold" ||
                         key == "step_caching.reuse";
    EXPECT_EQ(c.keys_set.contains(key), !is_ours) << key;
  }
  EXPECT_EQ(c.num_model_invocations_per_inference_step, 2);
  EXPECT_TRUE(c.should_profile);
  EXPECT_FALSE(c.mlp.is_enabled);
  EXPECT_EQ(c.mlp.top_keys, 0.25);
  EXPECT_EQ(c.mlp.random_keys, 0.04);
  EXPECT_EQ(c.mlp.full_step_every, 8);
  EXPECT_EQ(c.mlp.block_mask_cache, 3);
  EXPECT_EQ(c.mlp.first_n_dense_layers, 1);
  EXPECT_EQ(c.mlp.counts_multiple_of, 64);
  EXPECT_EQ(c.mlp.mbm, 256);
  EXPECT_FALSE(c.patchify.is_enabled);
  EXPECT_EQ(c.patchify.chunk_size_1, 16);
  EXPECT_EQ(c.patchify.chunk_size_2, 2);
  EXPECT_EQ(c.attn.top_keys, 0.1);
  EXPECT_EQ(c.attn.local_voxels, 5);
  EXPECT_EQ(c.attn.local_1d_window, 0.25);
  EXPECT_THAT(c.attn.full_step_schedule.value(), ElementsAre(0, 1, 10, 40));
  EXPECT_FALSE(c.attn.recompute_mask);
  EXPECT_FALSE(c.attn.should_compress_indices);
  EXPECT_EQ(c.attn.mbm, 96);
  EXPECT_TRUE(c.offloading.mlp_sparse_act_T);
  EXPECT_FALSE(c.offloading.attn_out_cache);
  EXPECT_TRUE(c.step_caching.is_enabled);
  EXPECT_THAT(c.step_caching.skip_step_schedule, ElementsAre(7, 11, 13));
}

TEST(SparsityConfig, WritesWhatItReads) {
  SparsityConfig config = LoadSparsityConfig(TestFile("reference.yml"));
  Apply(config, "attn.merge=pooled");
  Apply(config, "attn.column_sums=pooled");
  Apply(config, "step_caching.threshold=0.125");
  Apply(config, "step_caching.reuse=extrapolate");
  const std::string text = WriteYaml(config);
  EXPECT_EQ(WriteYaml(ParseSparsityConfig(text, "written")), text);
  EXPECT_NE(text, WriteYaml(SparsityConfig()));
  const std::string defaults = WriteYaml(SparsityConfig());
  EXPECT_EQ(WriteYaml(ParseSparsityConfig(defaults, "written")), defaults);
}

TEST(SparsityConfig, AbsentKeysKeepTheReferencesDefaults) {
  EXPECT_EQ(WriteYaml(ParseSparsityConfig("", "empty")), WriteYaml(SparsityConfig()));
  const SparsityConfig c = ParseSparsityConfig("attn:\n  top_keys: 0.5\n", "x");
  EXPECT_EQ(c.attn.top_keys, 0.5);
  EXPECT_EQ(c.mlp.top_keys, 0.3);
}

TEST(SparsityConfig, ErrorsNameFileLineKeyAndTheNearestKnownKey) {
  EXPECT_EQ(ParseError("steps: 50\nattn:\n  is_enabled: true\n  topkeys: 0.1\n"),
            "my.yml:4: key 'attn.topkeys': unknown; did you mean 'attn.top_keys'?");
  EXPECT_THAT(ParseError("atn:\n  top_keys: 0.1\n"),
              HasSubstr("my.yml:1: key 'atn': unknown; did you mean 'attn'?"));
  EXPECT_EQ(ParseError("step_caching:\n  order: 1\n"),  // of before the first release
            "my.yml:2: key 'step_caching.order': unknown; did you mean 'step_caching.reuse'?");
  EXPECT_THAT(ParseError("quite_something_else: 1\n"),
              HasSubstr("key 'quite_something_else': unknown"));
}

TEST(SparsityConfig, RefusesOtherTypesAndRanges) {
  EXPECT_THAT(ParseError("attn:\n  top_keys: dd\n"), HasSubstr("my.yml:2: key 'attn.top_keys'"));
  EXPECT_THAT(ParseError("attn:\n  top_keys: 1.5\n"), HasSubstr("my.yml:2: key 'attn.top_keys'"));
  EXPECT_THAT(ParseError("attn:\n  top_keys: .nan\n"), HasSubstr("'attn.top_keys'"));
  EXPECT_THAT(ParseError("attn:\n  top_keys: [1]\n"), HasSubstr("'attn.top_keys'"));
  EXPECT_THAT(ParseError("attn:\n  is_enabled: 3\n"), HasSubstr("'attn.is_enabled'"));
  EXPECT_THAT(ParseError("attn:\n  full_step_every: 0\n"), HasSubstr("'attn.full_step_every'"));
  EXPECT_THAT(ParseError("attn:\n  full_step_schedule: 3\n"), HasSubstr("full_step_schedule"));
  EXPECT_THAT(ParseError("attn:\n  full_step_schedule: [-1]\n"), HasSubstr("full_step_schedule"));
  EXPECT_THAT(ParseError("attn:\n  merge: other\n"),
              HasSubstr("expected additive, lse or pooled, found 'other'"));
  EXPECT_THAT(ParseError("attn:\n  column_sums: mean\n"),
              HasSubstr("expected exact or pooled, found 'mean'"));
  EXPECT_THAT(ParseError("attn:\n  cache_dtype: f16\n"), HasSubstr("expected f32 or bf16"));
  EXPECT_THAT(ParseError("step_caching:\n  reuse: 1\n"),
              HasSubstr("my.yml:2: key 'step_caching.reuse'"));
  EXPECT_THAT(ParseError("step_caching:\n  reuse: hiden\n"),
              HasSubstr("expected hidden, prediction or extrapolate, found 'hiden'"));
  EXPECT_THAT(ParseError("attn: 1\n"), HasSubstr("my.yml:1"));
  EXPECT_THAT(ParseError("[1, 2]\n"), HasSubstr("my.yml:1"));
  EXPECT_THAT(ParseError("attn: {\n"), HasSubstr("my.yml"));
}

TEST(SparsityConfig, FullStepScheduleIsAListASetOrNull) {
  const auto schedule = [](const char* value) {
    return ParseSparsityConfig(std::string("attn:\n  full_step_schedule: ") + value + "\n", "x")
        .attn.full_step_schedule;
  };
  EXPECT_THAT(schedule("[10, 0, 1]").value(), ElementsAre(0, 1, 10));
  EXPECT_THAT(schedule("!!set {0, 1, 10}").value(), ElementsAre(0, 1, 10));
  EXPECT_FALSE(schedule("null").has_value());
  EXPECT_FALSE(schedule("").has_value());
}

TEST(SparsityConfig, ApplySetsOneKey) {
  SparsityConfig config;
  Apply(config, "attn.top_keys=0.125");
  Apply(config, "attn.full_step_schedule={0, 1, 10}");
  Apply(config, "attn.merge=lse");
  Apply(config, "mlp.is_enabled=false");
  Apply(config, "offloading.mlp.out_cache=true");
  Apply(config, "steps=20");
  EXPECT_EQ(config.attn.top_keys, 0.125);
  EXPECT_THAT(config.attn.full_step_schedule.value(), ElementsAre(0, 1, 10));
  EXPECT_EQ(config.attn.merge, AttentionMerge::kLse);
  EXPECT_FALSE(config.mlp.is_enabled);
  EXPECT_TRUE(config.offloading.mlp_out_cache);
  EXPECT_EQ(config.steps, 20);
  Apply(config, "attn.full_step_schedule=null");
  EXPECT_FALSE(config.attn.full_step_schedule.has_value());
}

TEST(SparsityConfig, ApplyRefusesBadSettingsAsArguments) {
  EXPECT_EQ(ApplyError("attn.topkeys=0.1"),
            "setting 'attn.topkeys=0.1': key 'attn.topkeys': unknown; did you mean "
            "'attn.top_keys'?");
  EXPECT_EQ(ApplyError("attn.top_keys"), "setting 'attn.top_keys': expected key=value");
  EXPECT_THAT(ApplyError("attn.top_keys=2"),
              ::testing::StartsWith("setting 'attn.top_keys=2': key 'attn.top_keys'"));
  EXPECT_THAT(ApplyError("attn.top_keys="), HasSubstr("'attn.top_keys'"));
  EXPECT_THAT(ApplyError("attn.top_keys={"), HasSubstr("setting 'attn.top_keys={'"));
  EXPECT_THAT(ApplyError("steps=1\nworld_size: 2"), HasSubstr("setting"));
  for (const char* setting : {"attn=1", "attn={top_keys: 0.1}"}) {
    EXPECT_THAT(ApplyError(setting), HasSubstr("key 'attn': a section; expected one of its keys, "
                                               "such as 'attn.is_enabled'"));
  }
}

class WarnsOfKeysWithoutEffect : public ::testing::TestWithParam<bool> {};

TEST_P(WarnsOfKeysWithoutEffect, ForReasonsOfTheDevice) {
  const bool is_on_gpu = GetParam();
  const Placement placement =
      is_on_gpu ? Placement{{DeviceType::kCuda, 0}, DType::kBF16} : Placement();
  SparsityConfig config = LoadSparsityConfig(TestFile("reference.yml"));
  Apply(config, "attn.cache_dtype=bf16");
  Apply(config, "mlp.is_enabled=true");
  const std::vector<std::string> warnings = ConfigWarnings(config, {.placement = placement});
  const auto warning_of = [&](const std::string& key) {
    for (const std::string& warning : warnings) {
      if (warning.starts_with(key + ":")) return warning;
    }
    return std::string();
  };
  for (const char* key :
       {"world_size", "mlp.bm", "offloading.mlp.out_cache", "offloading.attn.lse_constants"}) {
    EXPECT_THAT(warning_of(key), HasSubstr(" has no effect: ")) << key;
  }
  EXPECT_THAT(warning_of("world_size"), HasSubstr(is_on_gpu ? "one GPU" : "one CPU"));
  EXPECT_EQ(warning_of("mlp.is_fp8").empty(), is_on_gpu);
  EXPECT_THAT(warning_of("offloading.mlp.out_cache"),
              HasSubstr(is_on_gpu ? "max_gpu_memory" : "main memory"));
  EXPECT_EQ(warning_of("attn.cache_dtype").empty(), !is_on_gpu);
  for (const std::string& warning : warnings) {
    EXPECT_EQ(warning.find(is_on_gpu ? "CPU" : "one GPU"), std::string::npos) << warning;
  }
  // Off, so nothing is asked for.
  EXPECT_EQ(warning_of("attn.pad_qkv_before_kernel"), "");
  EXPECT_EQ(warning_of("offloading.attn.out_cache"), "");
  EXPECT_THAT(ConfigWarnings(SparsityConfig(), {.placement = placement}), IsEmpty());
}

INSTANTIATE_TEST_SUITE_P(OnCpuAndGpu, WarnsOfKeysWithoutEffect, ::testing::Bool());

TEST(SparsityConfig, WarnsOfKeysThatAreSetInASectionThatIsOff) {
  SparsityConfig config = ParseSparsityConfig("step_caching: {threshold: 0.2}", "file");
  EXPECT_THAT(ConfigWarnings(config), IsEmpty()) << "a file may carry what it does not use";
  Apply(config, "step_caching.threshold=0.1");
  Apply(config, "attn.is_enabled=false");
  EXPECT_THAT(ConfigWarnings(config), ElementsAre("step_caching.threshold: 0.1 has no effect: "
                                                  "step_caching.is_enabled is false"));
  Apply(config, "step_caching.is_enabled=true");
  EXPECT_THAT(ConfigWarnings(config), IsEmpty());
}

TEST(SparsityConfig, WarnsOfModelCallsThatTheGenerationDoesNotMake) {
  SparsityConfig config;
  EXPECT_THAT(ConfigWarnings(config, {.num_invocations = 2}), IsEmpty()) << "nothing was asked for";
  Apply(config, "num_model_invocations_per_inference_step=2");
  EXPECT_THAT(ConfigWarnings(config, {.num_invocations = 2}), IsEmpty());
  EXPECT_THAT(ConfigWarnings(config), IsEmpty()) << "not known yet";
  EXPECT_THAT(ConfigWarnings(config, {.num_invocations = 1}),
              ElementsAre("num_model_invocations_per_inference_step: 2 has no effect: this "
                          "generation calls the model once a step"));
  Apply(config, "num_model_invocations_per_inference_step=1");
  EXPECT_THAT(ConfigWarnings(config, {.num_invocations = 2}),
              ElementsAre(HasSubstr("1 has no effect: this generation calls the model twice")));
}

TEST(SparsityConfig, WarnsWhenSchedulesAreForAnotherNumberOfSteps) {
  SparsityConfig config;
  EXPECT_THAT(ConfigWarnings(config, {.num_steps = 25}), IsEmpty());
  config.attn.full_step_schedule = {0, 1, 10};
  EXPECT_THAT(ConfigWarnings(config, {.num_steps = 50}), IsEmpty());
  EXPECT_THAT(ConfigWarnings(config, {.num_steps = 25}),
              ElementsAre(HasSubstr("written for 50 steps and this generation has 25")));
  config.step_caching.is_enabled = true;
  config.step_caching.skip_step_schedule = {0};
  EXPECT_THAT(ConfigWarnings(config, {.num_steps = 50}),
              ElementsAre(HasSubstr("step 0 cannot be skipped")));
  config.step_caching.skip_step_schedule = {0, 15};
  EXPECT_THAT(
      ConfigWarnings(config, {.num_steps = 50, .restart = 15}),
      ElementsAre(HasSubstr("step 0 cannot be skipped"), HasSubstr("step 15 cannot be skipped")));
}

TEST(SparsityConfig, WarnsOfACacheTypeWhereNothingIsCached) {
  SparsityConfig config;
  Apply(config, "attn.cache_dtype=bf16");
  EXPECT_THAT(ConfigWarnings(config), IsEmpty());
  Apply(config, "attn.merge=pooled");
  EXPECT_THAT(
      ConfigWarnings(config),
      ElementsAre("attn.cache_dtype: bf16 has no effect: with attn.merge: pooled nothing is "
                  "cached"));
  EXPECT_THAT(ConfigWarnings(config, {.placement = {{}, DType::kBF16}}),
              ElementsAre(HasSubstr("attn.cache_dtype")))
      << "once";
}

TEST(SparsityConfig, AnEmptyScheduleFitsAnyNumberOfSteps) {
  SparsityConfig config;
  config.attn.full_step_schedule.emplace();
  EXPECT_THAT(ConfigWarnings(config, {.num_steps = 4}), IsEmpty());
}

TEST(SparsityConfig, DenseEnablesNothing) {
  EXPECT_FALSE(SparsityConfig::Dense().IsAnythingEnabled());
  EXPECT_TRUE(SparsityConfig().IsAnythingEnabled());
}

TEST(Profiles, ShippedOnesLoadWithoutWarnings) {
  EXPECT_THAT(ListProfiles(), ::testing::IsSupersetOf({"demo", "flux-1-dev"}));
  for (const std::string& name : ListProfiles()) {
    const SparsityConfig config = LoadSparsityConfig(FindProfile(name));
    EXPECT_TRUE(config.IsAnythingEnabled()) << name;
    EXPECT_THAT(ConfigWarnings(config, {.num_steps = config.steps}), IsEmpty()) << name;
  }
}

TEST(Profiles, FluxHasThePublishedSettings) {
  const SparsityConfig c = LoadSparsityConfig(FindProfile("flux-1-dev"));
  EXPECT_EQ(c.attn.top_keys, 0.165);
  EXPECT_EQ(c.attn.random_keys, 0.01);
  EXPECT_EQ(c.attn.full_step_every, 10);
  EXPECT_FALSE(c.attn.recompute_mask);
  EXPECT_EQ(c.attn.counts_multiple_of, 112);
  EXPECT_EQ(c.attn.merge, AttentionMerge::kAdditive);
  EXPECT_EQ(c.mlp.top_keys, 0.3);
  EXPECT_EQ(c.mlp.random_keys, 0.05);
  EXPECT_EQ(c.mlp.block_mask_cache, 2);
  EXPECT_EQ(c.attn.first_n_dense_layers, 2);
}

TEST(Profiles, MochiHasThePublishedSettings) {
  const SparsityConfig c = LoadSparsityConfig(FindProfile("mochi"));
  EXPECT_EQ(c.num_model_invocations_per_inference_step, 2);
  EXPECT_EQ(c.attn.top_keys, 0.15);
  EXPECT_EQ(c.attn.random_keys, 0.01);
  EXPECT_EQ(c.attn.full_step_schedule, (std::set<int64_t>{0, 1, 15, 30, 45, 60}));
  EXPECT_TRUE(c.attn.recompute_mask);
  EXPECT_EQ(c.attn.counts_multiple_of, 128);
  EXPECT_FALSE(c.patchify.is_enabled);
  EXPECT_FALSE(c.mlp.is_enabled);
  EXPECT_FALSE(c.step_caching.is_enabled);
}

TEST(Profiles, HunyuanVideoHasThePublishedSettings) {
  const SparsityConfig c = LoadSparsityConfig(FindProfile("hunyuan-video"));
  EXPECT_EQ(c.attn.top_keys, 0.05);
  EXPECT_EQ(c.attn.random_keys, 0.01);
  EXPECT_EQ(c.attn.local_voxels, 0);
  EXPECT_EQ(c.attn.full_step_schedule, (std::set<int64_t>{0, 1, 10, 40}));
  EXPECT_TRUE(c.attn.recompute_mask);
  EXPECT_EQ(c.attn.counts_multiple_of, 128);
  EXPECT_TRUE(c.patchify.is_enabled);
  EXPECT_FALSE(c.mlp.is_enabled);
  EXPECT_TRUE(c.step_caching.is_enabled);
  EXPECT_EQ(c.step_caching.skip_step_schedule, SparsityConfig().step_caching.skip_step_schedule);
}

TEST(Profiles, UnknownOnesAreRefusedWithTheListOfThoseThereAre) {
  const std::string message = ErrorOf([] { FindProfile("flux-1-devv"); }, ErrorCode::kNotFound);
  EXPECT_THAT(message, HasSubstr("did you mean 'flux-1-dev'?"));
  EXPECT_THAT(message, HasSubstr("there are: "));
  EXPECT_THAT(message, HasSubstr("demo"));
  EXPECT_THROW(FindProfile("../configs/demo"), Error);
  EXPECT_THROW(FindProfile(""), Error);
}

TEST(Profiles, ProgramsInTheBuildTreeTakeThoseOfTheSourceTree) {
  const auto configs = std::filesystem::path(TAMIAS_SOURCE_DIR) / "configs";
  EXPECT_EQ(FindProfile("mochi"), configs / "mochi.yml");
}

TEST(Profiles, TheEnvironmentComesFirst) {
  const std::filesystem::path folder = std::filesystem::path(::testing::TempDir()) / "profiles";
  std::filesystem::create_directories(folder);
  std::ofstream(folder / "demo.yml") << "steps: 7\n";
  setenv("TAMIAS_CONFIGS", folder.c_str(), 1);
  EXPECT_EQ(FindProfile("demo"), folder / "demo.yml");
  unsetenv("TAMIAS_CONFIGS");
  EXPECT_NE(FindProfile("demo"), folder / "demo.yml");
}

}  // namespace
}  // namespace tamias
