// A model folder made of links for one test: a tiny fixture's components beside the demo model's.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <initializer_list>
#include <string>
#include <vector>

#include "tamias/pipeline.h"

namespace tamias {

namespace fs = std::filesystem;

inline const fs::path kDemoModel = fs::path(TAMIAS_SOURCE_DIR) / "models/demo-flux";

class LinkedModelTest : public testing::Test {
 protected:
  // name: of the folder, which the process id is added to.
  explicit LinkedModelTest(const std::string& name)
      : folder_(fs::temp_directory_path() / ("tamias-" + name + "-" + std::to_string(getpid()))) {
    fs::create_directories(folder_);
  }
  ~LinkedModelTest() override { fs::remove_all(folder_); }

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
    try {
      Pipeline(folder_).Generate(options);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  }

  fs::path folder_;
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
