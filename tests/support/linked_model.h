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
inline const fs::path kTinyPipelines = fs::path(TAMIAS_TEST_DATA) / "pipeline";

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

  // The demo model, all but its transformer.
  void LinkDemoWithoutTransformer() const {
    LinkAll({"model_index.json", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2",
             "vae", "scheduler", "tamias.json"},
            kDemoModel);
  }
  // A tiny Wan of this name, all but what reads a picture.
  void LinkWan(const std::string& name) const {
    LinkAll({"model_index.json", "transformer", "text_encoder", "vae", "scheduler"},
            kTinyPipelines / name);
    Link("tokenizer", kDemoModel / "tokenizer_2");
  }
  // The tiny Mochi, with the T5 of the demo model.
  void LinkMochi() const {
    LinkAll({"model_index.json", "transformer", "vae", "scheduler"}, kTinyPipelines / "tiny-mochi");
    Link("text_encoder", kDemoModel / "text_encoder_2");
    Link("tokenizer", kDemoModel / "tokenizer_2");
  }

  // A copy of a component of `source` instead of a link, one piece of a file's text replaced.
  void Edit(const fs::path& source, const std::string& component, const char* file,
            const std::string& from, const std::string& to) const {
    fs::remove_all(folder_ / component);
    fs::copy(source / component, folder_ / component);
    std::string text = ReadBytes(source / component / file);
    ASSERT_NE(text.find(from), text.npos);
    WriteBytes(folder_ / component / file, text.replace(text.find(from), from.size(), to));
  }
  // Takes the place of the index.
  void WriteIndex(std::string_view json) const {
    fs::remove(folder_ / "model_index.json");
    WriteBytes(folder_ / "model_index.json", json);
  }
  // family: "WanPipeline"; config: the scheduler's folder.
  void UseScheduler(const std::string& family, const std::string& class_name,
                    const fs::path& config) const {
    Link("scheduler", config);
    WriteIndex(R"({"_class_name": ")" + family + R"(", "scheduler": ["diffusers", ")" + class_name +
               R"("]})");
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

// Overrides under which films of a few tokens have sparse steps: full steps 0 and 1, sparse ones
// after, of attention and MLP.
inline const std::vector<std::string> kSparseFilm = {"attn.full_step_schedule={0, 1}",
                                                     "attn.first_n_dense_layers=0",
                                                     "attn.top_keys=0.3",
                                                     "attn.local_voxels=0",
                                                     "attn.local_1d_window=0",
                                                     "attn.counts_multiple_of=1",
                                                     "attn.mbm=16",
                                                     "mlp.is_enabled=true",
                                                     "mlp.first_n_dense_layers=0",
                                                     "mlp.top_keys=0.4",
                                                     "mlp.counts_multiple_of=8",
                                                     "mlp.mbm=128",
                                                     "step_caching.is_enabled=false"};

// A small picture of the demo model.
inline GenerateOptions SmallPicture(int steps) {
  GenerateOptions options;
  options.prompt = "a small pink heart at the top right on a marble white background";
  options.width = options.height = 64;
  options.steps = steps;
  options.seed = 5;
  return options;
}

// One on a GPU, with guidance: full steps 0 and 1, sparse ones after.
inline GenerateOptions SparsePictureOnGpu(int steps, const std::string& skipped_steps) {
  GenerateOptions options = SmallPicture(steps);
  options.true_cfg_scale = 2;
  options.device = "cuda";
  options.sparsity = "demo";
  options.overrides = {"attn.full_step_schedule={0, 1}", "attn.mbm=32", "mlp.mbm=128",
                       "step_caching.skip_step_schedule=" + skipped_steps};
  return options;
}

}  // namespace tamias
