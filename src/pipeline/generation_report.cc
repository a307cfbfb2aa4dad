// The report as JSON: settings, machine and device, seconds by stage, sparsity in all (the work of
// all pictures added up) and step by step, memory planned and used.
#include "pipeline/generation_report.h"

#include "base/cuda/device.h"
#include "base/machine.h"
#include "sparsity/report_json.h"

namespace tamias {
namespace {

nlohmann::ordered_json ToJson(const std::vector<DeviceMemory>& devices) {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const DeviceMemory& memory : devices) {
    nlohmann::ordered_json entries = nlohmann::ordered_json::array();
    for (const MemoryEntry& entry : memory.entries) {
      entries.push_back({{"name", entry.name}, {"bytes", entry.bytes}});
    }
    list.push_back({{"device", memory.device}, {"bytes", memory.bytes}, {"entries", entries}});
  }
  return list;
}

}  // namespace

GenerationReport::GenerationReport(const std::string& settings, const Devices& devices,
                                   const Placement& placement)
    : settings_(nlohmann::ordered_json::parse(settings)),
      devices_(devices),
      placement_(placement) {}

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
  json["device"] = Name(devices_);
  json["dtype"] = Name(placement_.activation_dtype);
  json["weight_dtype"] = placement_.weight_dtype ? Name(*placement_.weight_dtype) : "auto";
  const bool is_on_gpu = devices_.front().type == DeviceType::kCuda;
  if (is_on_gpu) json["gpu"] = cuda::PropertiesOf(devices_.front().index).name;
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
  if (is_on_gpu) {
    json["planned_device_memory_bytes"] = result.planned_device_memory_bytes;
    json["planned_devices"] = ToJson(result.planned_devices);
    json["device_measures"] = result.device_measures;
  }
  json["steps"] = steps_;
  result.report_json = json.dump(2);
}

}  // namespace tamias
