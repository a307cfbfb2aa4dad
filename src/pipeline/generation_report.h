// The JSON report of a generation: its settings, times, memory, and what sparsity did at each step.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "tamias/devices.h"
#include "tamias/pipeline.h"
#include "tamias/placement.h"
#include "tamias/sparsity/report.h"

namespace tamias {

class GenerationReport {
 public:
  // settings: a JSON object as text; devices and placement: of the transformer.
  GenerationReport(const std::string& settings, const Devices& devices, const Placement& placement);

  // The steps of one picture, in order.
  void AddImage(const SparsityReport& report);

  // Fills in the sparsity of the pictures so far and report_json; the times must be there already.
  void Finish(GenerateResult& result);

 private:
  nlohmann::ordered_json settings_;
  Devices devices_;
  Placement placement_;
  nlohmann::ordered_json steps_ = nlohmann::ordered_json::array();
  WorkCount attention_;
  WorkCount mlp_;
  StageSeconds stages_;
  int num_images_ = 0;
};

}  // namespace tamias
