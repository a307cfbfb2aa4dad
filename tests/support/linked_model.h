// A model folder made of links for one test: a tiny fixture's components beside the demo model's.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <initializer_list>
#include <optional>
#include <string>
#include <vector>

#include "tamias/pipeline.h"
#include "tests/support/errors.h"
#include "tests/support/test_files.h"

namespace tamias {

namespace fs = std::filesystem;

inline const fs::path kDemoModel = fs::path(TAMIAS_SOURCE_DIR) / "models/demo-flux";

class LinkedModelTest : public testing::Test {
 protected:
  explicit LinkedModelTest(const std::string& name) : temporary_(name) {}

  // A component (a file or a folder) of the model; takes the place of the one that was there.
  void Link(const std::string& name, const fs::path& target) const {
    fs::remove_all(folder_ / name);
    fs::create_symlink(target, folder_ / name);
  }
  void LinkAll(std::initializer_list<const char*> names, const fs::path& source) const {
    for (const char* name : names) Link(name, source / name);
  }

  // The message of the error that a generation with these options ends in; empty without one.
  std::string ErrorOf(const GenerateOptions& options) const {
    return tamias::ErrorOf([&] { Pipeline(folder_).Generate(options); });
  }

  // The message of the error that loading the folder ends in; empty without one.
  std::string LoadError(std::optional<ErrorCode> code = std::nullopt) const {
    return tamias::ErrorOf([&] { const Pipeline pipeline(folder_); }, code);
  }

  TemporaryFolder temporary_;
  const fs::path folder_ = temporary_.path();
};

// Overrides under which sparse steps select every column and neuron.
inline const std::vector<std::string> kSelectEverything = {"attn.top_keys=1",
                                                           "attn.first_n_dense_layers=0",
                                                           "attn.counts_multiple_of=1",
                                                           "mlp.is_enabled=true",
                                                           "mlp.top_keys=1",
                                                           "mlp.first_n_dense_layers=0",
                                                           "mlp.counts_multiple_of=1"};

}  // namespace tamias
