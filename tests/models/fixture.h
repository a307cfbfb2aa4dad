// What the parity tests of the models share: fixture folders below tests/data/models, the relative
// L2 error and the text of errors.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <string>

#include "base/tensor.h"
#include "io/checkpoint.h"
#include "io/json.h"
#include "io/safetensors.h"
#include "tamias/error.h"

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

// |actual - expected| / |expected|; both contiguous f32.
inline double RelativeL2(ConstTensorView actual, ConstTensorView expected) {
  EXPECT_EQ(actual.shape(), expected.shape());
  if (!(actual.shape() == expected.shape())) return INFINITY;
  double difference = 0;
  double norm = 0;
  for (int64_t i = 0; i < expected.NumElements(); ++i) {
    const double e = expected.data<float>()[i];
    const double d = actual.data<float>()[i] - e;
    difference += d * d;
    norm += e * e;
  }
  return std::sqrt(difference / norm);
}

// The message of the tamias::Error that an action throws; empty when it throws none.
template <typename Action>
std::string ErrorOf(const Action& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

}  // namespace tamias
