// What the profile, the scheduler, the options, the weights, the prompt and the threads ask for
// that does not happen.
#include "pipeline/generation_warnings.h"

#include "base/check.h"
#include "base/machine.h"

namespace tamias {

std::vector<std::string> WarningsOf(const ModelFamily& family, const GenerateOptions& options,
                                    const GenerationSettings& settings,
                                    const SparsityConfig& sparsity, int num_steps,
                                    int second_expert_step) {
  const SchedulerFactory& scheduler = family.scheduler();
  const std::string& variant = family.folder().variant();
  std::vector<std::string> warnings;
  if (sparsity.IsAnythingEnabled()) {
    warnings = ConfigWarnings(sparsity, {.placement = family.PlacementFor(options),
                                         .num_steps = num_steps,
                                         .num_invocations = settings.num_invocations(),
                                         .restart = second_expert_step});
  }
  if (!scheduler.other_class().empty()) {
    warnings.push_back(
        fmt::format("{} runs, as model_index.json says; scheduler_config.json was written by {}",
                    scheduler.class_name(), scheduler.other_class()));
  }
  if (options.guidance_scale && !family.HasGuidanceEmbedding()) {
    warnings.emplace_back(
        "guidance_scale has no effect: the model has no guidance embedding (true_cfg_scale has)");
  }
  if (!options.negative_prompt.empty() && !settings.use_true_cfg()) {
    warnings.emplace_back("negative_prompt has no effect while true_cfg_scale is not above 1");
  }
  if (options.true_cfg_scale_2 && !settings.use_true_cfg()) {
    warnings.emplace_back("true_cfg_scale_2 has no effect while true_cfg_scale is not above 1");
  }
  if (options.max_gpu_memory_bytes > 0 && !family.PlacementFor(options).IsOnGpu()) {
    warnings.emplace_back("max_gpu_memory has no effect: the generation is not on a GPU");
  }
  for (const ComponentInfo& component : family.info().components) {
    if (component.variant == variant || variant.empty()) continue;
    warnings.push_back(fmt::format("{} has no weights of the variant '{}'; its plain ones are read",
                                   component.name, variant));
  }
  if (family.IsCut(options.prompt, settings)) {
    warnings.push_back(fmt::format("the prompt is longer than {} tokens; its end has no effect",
                                   settings.max_sequence_length));
  }
  if (const int cpus = UsableCpus(); options.threads > cpus) {
    warnings.push_back(
        fmt::format("{} threads share the {} CPU{} that this process may use: fewer "
                    "are faster",
                    options.threads, cpus, cpus == 1 ? "" : "s"));
  }
  return warnings;
}

}  // namespace tamias
