// `tamias inspect`: what a checkpoint holds and what a generation would need, before anything runs.
#include <fmt/format.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "commands.h"
#include "common_options.h"
#include "tamias/machine.h"
#include "tamias/text.h"

namespace tamias::cli {
namespace {

constexpr char kExamples[] = R"(Examples:
  tamias inspect --model models/demo-flux
  tamias inspect --model FLUX.1-dev --width 2304 --height 1280 --sparsity flux-1-dev
  tamias inspect --model HunyuanVideo --width 1280 --height 720 --frames 129
  tamias inspect --model models/demo-flux --json)";

constexpr double kMiB = 1024.0 * 1024.0;

nlohmann::ordered_json ToJson(const std::vector<MemoryEntry>& entries) {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const MemoryEntry& entry : entries) {
    list.push_back({{"name", entry.name}, {"bytes", entry.bytes}});
  }
  return list;
}

nlohmann::ordered_json ToJson(const MemoryPlan& plan) {
  nlohmann::ordered_json devices = nlohmann::ordered_json::array();
  for (const DeviceMemory& memory : plan.devices) {
    devices.push_back({{"device", memory.device},
                       {"bytes", memory.bytes},
                       {"card_bytes", memory.card_bytes},
                       {"free_bytes", memory.free_bytes},
                       {"entries", ToJson(memory.entries)}});
  }
  return {{"peak_bytes", plan.peak_bytes},
          {"spill_bytes", plan.spill_bytes},
          {"entries", ToJson(plan.entries)},
          {"device_bytes", plan.device_bytes},
          {"devices", devices},
          {"device_measures", plan.device_measures}};
}

// Of the options, for this model.
nlohmann::ordered_json Defaults(const ModelInfo& info) {
  const GenerationSettings& defaults = info.defaults;
  nlohmann::ordered_json json = {{"width", defaults.width},
                                 {"height", defaults.height},
                                 {"steps", defaults.steps},
                                 {"max_sequence_length", defaults.max_sequence_length},
                                 {"true_cfg_scale", defaults.true_cfg_scale},
                                 {"guidance_scale", defaults.guidance_scale}};
  if (defaults.true_cfg_scale_2) json["true_cfg_scale_2"] = *defaults.true_cfg_scale_2;
  if (info.makes_videos) {
    json["num_frames"] = defaults.num_frames;
    json["fps"] = defaults.fps;
  }
  return json;
}

void PrintPlan(const char* title, const MemoryPlan& plan) {
  const auto print = [](const std::string& name, size_t bytes) {
    fmt::print("  {:<44} {:>10.1f} MiB\n", name, static_cast<double>(bytes) / kMiB);
  };
  fmt::print("\n{}\n", title);
  for (const MemoryEntry& entry : plan.entries) print(entry.name, entry.bytes);
  print("peak", plan.peak_bytes);
  if (plan.spill_bytes > 0) print("on disk: the sparsity state", plan.spill_bytes);
  for (const DeviceMemory& memory : plan.devices) {
    for (const MemoryEntry& entry : memory.entries) {
      print(memory.device + ": " + entry.name, entry.bytes);
    }
    print(memory.device, memory.bytes);
    if (memory.card_bytes > 0) {
      fmt::print("  {} has {}, of which {} are free\n", memory.device, BytesText(memory.card_bytes),
                 BytesText(memory.free_bytes));
    }
  }
  for (const std::string& measure : plan.device_measures) fmt::print("  {}\n", measure);
}

// What a generation with these options would use, without the parts that inspect has no options
// for.
nlohmann::ordered_json InspectedSettings(const Pipeline& pipeline, const GenerateOptions& options) {
  nlohmann::ordered_json settings = SettingsOf(pipeline, options);
  for (const char* name : {"prompt", "negative_prompt", "seed", "image", "version"}) {
    settings.erase(name);
  }
  return settings;
}

void PrintText(const Pipeline& pipeline, const GenerateOptions& options, const MemoryPlan& dense,
               const MemoryPlan& sparse) {
  const ModelInfo& info = pipeline.info();
  fmt::print("{}\n", info.family);
  for (const ComponentInfo& component : info.components) {
    fmt::print("  {:<16} {:<30} {:>13} parameters {:>10.1f} MiB {}{}{}\n", component.name,
               component.class_name, component.parameters,
               static_cast<double>(component.bytes) / kMiB, component.dtype,
               component.variant.empty() ? "" : ", variant ", component.variant);
  }
  if (info.needs_image)
    fmt::print("\nFilms begin with a picture: generate and compare need --image\n");
  if (info.makes_videos) fmt::print("\nFilm of {} frames", NumFrames(pipeline, options));
  fmt::print("\nTokens: {} {} + {} text\n", pipeline.NumImageTokens(options),
             info.makes_videos ? "video" : "image", pipeline.NumTextTokens(options));
  fmt::print("Scheduler: {}\n", info.scheduler);
  if (const int step = pipeline.SecondExpertStep(options); step > 0) {
    fmt::print("Second transformer: from step {} on\n", step);
  }
  fmt::print("Profile: {}\n", info.default_profile);
  fmt::print("Settings in force:\n");
  const nlohmann::ordered_json settings = InspectedSettings(pipeline, options);
  for (const auto& [name, value] : settings.items()) {
    fmt::print("  {}: {}\n", name, value.is_string() ? value.get<std::string>() : value.dump());
  }
  const nlohmann::ordered_json defaults = Defaults(info);
  for (const auto& [name, value] : defaults.items()) {
    fmt::print("  default {}: {}\n", name, value.dump());
  }
  PrintPlan("Memory, dense", dense);
  PrintPlan("Memory, accelerated", sparse);
  fmt::print("\nThis machine: {}\n", MachineName());
  for (const MemoryLimit& limit : MemoryLimits()) {
    fmt::print("  {}: {}, {} in use\n", limit.name, BytesText(limit.bytes),
               BytesText(limit.used_bytes));
  }
}

void Run(const CommonOptions& options) {
  const Pipeline pipeline(options.model, options.load);
  GenerateOptions dense = options.generate;
  dense.sparsity = "off";
  dense.overrides.clear();
  const MemoryPlan dense_plan = pipeline.PlanMemory(dense);
  const MemoryPlan sparse_plan = pipeline.PlanMemory(options.generate);
  PrintWarnings(pipeline, options);
  if (!options.json) {
    PrintText(pipeline, options.generate, dense_plan, sparse_plan);
    return;
  }
  nlohmann::ordered_json json;
  json["family"] = pipeline.info().family;
  for (const ComponentInfo& component : pipeline.info().components) {
    json["components"].push_back({{"name", component.name},
                                  {"class", component.class_name},
                                  {"parameters", component.parameters},
                                  {"bytes", component.bytes},
                                  {"dtype", component.dtype},
                                  {"variant", component.variant}});
  }
  json["scheduler"] = pipeline.info().scheduler;
  json["needs_image"] = pipeline.info().needs_image;
  json["num_frames"] = NumFrames(pipeline, options.generate);
  json["image_tokens"] = pipeline.NumImageTokens(options.generate);
  json["text_tokens"] = pipeline.NumTextTokens(options.generate);
  if (const int step = pipeline.SecondExpertStep(options.generate); step > 0) {
    json["second_expert_step"] = step;
  }
  json["default_profile"] = pipeline.info().default_profile;
  json["defaults"] = Defaults(pipeline.info());
  json["settings"] = InspectedSettings(pipeline, options.generate);
  json["memory_dense"] = ToJson(dense_plan);
  json["memory_accelerated"] = ToJson(sparse_plan);
  json["usable_cpus"] = UsableCpus();
  for (const MemoryLimit& limit : MemoryLimits()) {
    json["memory_limits"].push_back(
        {{"name", limit.name}, {"bytes", limit.bytes}, {"used_bytes", limit.used_bytes}});
  }
  json["sparsity"] = pipeline.SparsityYaml(options.generate);
  fmt::print("{}\n", json.dump(2));
}

}  // namespace

void AddInspectCommand(CLI::App& app) {
  CLI::App* command = app.add_subcommand(
      "inspect", "Show a model's components and what a generation would need, without running it");
  auto options = std::make_shared<CommonOptions>();
  AddModelOptions(*command, *options);
  AddFpsOption(*command, *options);
  command->footer(kExamples);
  command->callback([options] { Run(*options); });
}

}  // namespace tamias::cli
