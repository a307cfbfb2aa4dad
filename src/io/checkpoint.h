// The weights of one component folder of a diffusers checkpoint: model.safetensors,
// diffusion_pytorch_model.safetensors, or shards listed by *.safetensors.index.json.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/context.h"
#include "base/tensor.h"

namespace tamias {

// Named tensors, memory-mapped. Copies are cheap and share the mapping; views returned by Get are
// valid as long as any Weights of the same folder lives (models keep one as a member).
class Weights {
 public:
  // Throws kNotFound when the folder holds no weights, kInvalidFile for broken files.
  static Weights Open(const std::filesystem::path& folder);

  // The tensor `prefix + name`. Throws kInvalidFile "path: tensor 'name': expected shape .., found
  // .." or "...: missing", and kUnsupported for element types that Tamias does not compute with.
  ConstTensorView Get(std::string_view name, const Shape& expected) const;
  ConstTensorView Get(std::string_view name) const;  // any shape
  bool Has(std::string_view name) const;

  // The tensors below "prefix." or "prefix.index.": weights.Sub("blocks", 3).Get("norm.weight",
  // ..).
  Weights Sub(std::string_view prefix) const;
  Weights Sub(std::string_view prefix, int64_t index) const;

  // Names below the prefix, without it, sorted.
  std::vector<std::string> names() const;
  // Elements, and bytes on disk, of all tensors below the prefix.
  int64_t TotalParameters() const;
  int64_t TotalBytes() const;
  const std::filesystem::path& folder() const;

  // The same tensors in memory of the context's device, copied there at once: floats in the type of
  // its activations, other types as they are. Views that its Get returns are valid as long as any
  // Weights made from it lives. Throws kOutOfMemory.
  Weights CopyToDevice(const Context& context) const;
  // What CopyToDevice takes there, in bytes.
  size_t DeviceBytes(const Placement& placement) const;
  // The element type of most elements below the prefix; f32 when there are none.
  DType MainDType() const;

  // Throws kInvalidFile naming the first tensor below the prefix that holds a NaN or an infinity.
  // Reads every byte once: memory bandwidth when the file is cached (24 GB: about 2 s), disk speed
  // when it is not.
  void CheckFinite(const Context& context) const;

 private:
  struct Store;
  Weights(std::shared_ptr<const Store> store, std::string prefix)
      : store_(std::move(store)), prefix_(std::move(prefix)) {}

  std::shared_ptr<const Store> store_;
  std::string prefix_;  // "" or ends in '.'
};

}  // namespace tamias
