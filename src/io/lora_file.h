// The file of a LoRA: two low-rank factors for each layer of a model that it changes. Source: Hu et
// al., LoRA: Low-Rank Adaptation of Large Language Models, arXiv 2106.09685: W + (alpha / r) B A.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "io/safetensors.h"
#include "tamias/tensor.h"

namespace tamias {

struct LoraLayer {
  std::string component;   // "transformer", "text_encoder" or "text_encoder_2"
  std::string name;        // of the layer in the component, as the file has it
  bool is_joined = false;  // the name's dots are underscores, as kohya's scripts write them
  std::string up_name;     // the tensor of `up`, for messages
  ConstTensorView down;    // A: [r, K] f32, f16 or bf16, contiguous
  ConstTensorView up;      // B: [N, r], likewise
  double scale = 1;        // alpha / r; with use_rslora alpha / sqrt(r)
};

class LoraFile {
 public:
  // Reads what diffusers, PEFT (which keeps alpha in adapter_config.json beside the file) and
  // kohya's scripts write. Throws as SafetensorsFile and JsonObject; kInvalidFile for a factor that
  // is missing, does not fit the other or is not finite, and for two alphas; kUnsupported for other
  // adapters (LoHa, LoKr, DoRA) and for changes of biases; kNotFound where PEFT's file is missing.
  // What is at fault is named: "path: tensor 'name': ...".
  explicit LoraFile(const std::filesystem::path& path);

  const std::vector<LoraLayer>& layers() const { return layers_; }  // by name; at least one
  const std::filesystem::path& path() const { return file_.path(); }
  // Throws kInvalidFile "path: tensor 'name': problem" with the name of the layer's `up`.
  [[noreturn]] void FailLayer(const LoraLayer& layer, std::string_view problem) const;
  // Lets go of what was read of the file; whoever needs it again reads it again.
  void GiveBack() const { file_.GiveBack(); }

 private:
  SafetensorsFile file_;
  std::vector<LoraLayer> layers_;
};

}  // namespace tamias
