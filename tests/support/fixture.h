// Fixture folders below tests/data/models: a model's weights beside what diffusers computed.
#pragma once

#include <filesystem>
#include <string>

#include "io/json.h"
#include "io/safetensors.h"
#include "tamias/tensor.h"
#include "tamias/weights.h"
#include "tests/support/compare_tensors.h"
#include "tests/support/errors.h"

namespace tamias {

inline std::filesystem::path FixtureFolder(const std::string& name) {
  return std::filesystem::path(TAMIAS_TEST_DATA) / "models" / name;
}

// A component folder with its recorded cases: inputs and outputs "0.tokens", "1.output", ...
struct Fixture {
  explicit Fixture(const std::string& name)
      : config(JsonObject::Load(FixtureFolder(name) / "config.json")),
        weights(Weights::Open(FixtureFolder(name))),
        cases(FixtureFolder(name) / "cases.safetensors") {}

  JsonObject config;
  Weights weights;
  SafetensorsFile cases;
};

}  // namespace tamias
