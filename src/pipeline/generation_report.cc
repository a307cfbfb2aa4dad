// The report as JSON: settings, machine and device, seconds by stage, sparsity in all (the work of
// all pictures added up) and step by step, memory planned and used.
#include "pipeline/generation_report.h"

#include "base/cuda/device.h"
#include "base/machine.h"
#include "sparsity/report_json.h"
#include "tamias/placement.h"

namespace tamias {

GenerationReport::GenerationReport(const std::string& settings, const Placement& placement)
    : settings_(nlohmann::ordered_json::parse(settings)), placement_(placement) {}

void GenerationReport::AddImage(const SparsityReport& report) {
  nlohmann::json json = ToJson(report);
  for (nlohmann::json& step : json.at("steps")) {
    step["image"] = num_images_;
    steps_.push_back(nlohmann::ordered_json(step));
  }
  for (const StepReport& step : report.steps) {
    attention_ += step.Attention();
    mlp_ += step.Mlp();
  }
  stages_ += report.Stages();
  ++num_images_;
}

void GenerationReport::Finish(GenerateResult& result) {
  result.attention_sparsity = attention_.Sparsity();
  result.mlp_sparsity = mlp_.Sparsity();
  nlohmann::ordered_json json;
  json["settings"] = settings_;
  json["machine"] = MachineName();
  json["device"] = Name(placement_.device);
  json["dtype"] = Name(placement_.activation_dtype);
  if (placement_.IsOnGpu()) {
    json["gpu"] = cuda::PropertiesOf(placement_.device.index).name;
  }
  json["seconds"] = {{"total", result.seconds_total},
                     {"to_first_step", result.seconds_to_first_step},
                     {"encode", result.seconds_encode},
                     {"denoise", result.seconds_denoise},
                     {"decode", result.seconds_decode},
                     {"attention", stages_.attention},
                     {"attention_selection", stages_.attention_selection},
                     {"mlp", stages_.mlp},
                     {"mlp_selection", stages_.mlp_selection},
                     {"step_cache", stages_.step_cache}};
  json["attention_sparsity"] = result.attention_sparsity;
  json["mlp_sparsity"] = result.mlp_sparsity;
  json["planned_memory_bytes"] = result.planned_memory_bytes;
  json["peak_memory_bytes"] = PeakResidentBytes();
  if (placement_.IsOnGpu()) {
    json["planned_device_memory_bytes"] = result.planned_device_memory_bytes;
    json["device_measures"] = result.device_measures;
  }
  json["steps"] = steps_;
  result.report_json = json.dump(2);
}

}  // namespace tamias
