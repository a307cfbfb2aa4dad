// The weights of one component folder of a diffusers checkpoint: the tensors of one safetensors
// file or of several shards as diffusers or
// transformers choose them.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tamias/context.h"
#include "tamias/tensor.h"

namespace tamias {

class OffloadedParts;
class PinnedParts;

// Whose rules choose among several sets of files of one component.
enum class WeightLibrary { kDiffusers, kTransformers };

struct WeightRequest {
  WeightLibrary library = WeightLibrary::kDiffusers;
  std::string variant;  // "fp16"; empty: none asked for
};

// Named tensors, memory-mapped; those of types that no operation computes with (F64, F8_E4M3,
// F8_E5M2) become wider copies when they are first asked for. A tensor that nobody asks for may be
// of any type. Copies of a Weights are cheap and share the mapping; views returned
// by Get are valid as long as any Weights of the same folder lives (models keep one as a member).
// Several threads may share one.
class Weights {
 public:
  // Throws as FindWeightFiles, and kInvalidFile for broken files.
  static Weights Open(const std::filesystem::path& folder, const WeightRequest& request = {});

  // What a float tensor is to be instead of the folder's: of the same shape and element type.
  // Called when the tensor is first asked for; the result stays in memory. It may not read these
  // Weights itself.
  using Change = std::function<Tensor(ConstTensorView)>;
  // The same tensors but for these. Of a folder as Open returns it, once.
  Weights WithChanges(std::map<std::string, Change, std::less<>> changes) const;

  // The tensor `prefix + name`. Throws kInvalidFile "path: tensor 'name': expected shape .., found
  // .." or "...: missing", and kUnsupported for element types that are not served and for quantised
  // weights: integers where a shape is expected, 8-bit floats with scales beside them.
  ConstTensorView Get(std::string_view name, const Shape& expected) const;
  ConstTensorView Get(std::string_view name) const;  // any shape
  bool Has(std::string_view name) const;

  // The tensors below "prefix." or "prefix.index.": weights.Sub("blocks", 3).Get("norm.weight",
  // ..).
  Weights Sub(std::string_view prefix) const;
  Weights Sub(std::string_view prefix, int64_t index) const;

  // The tensor's axes as the file has them, of any number. Throws kInvalidFile where it is missing.
  std::vector<int64_t> Dims(std::string_view name) const;

  // Names below the prefix, without it, sorted.
  std::vector<std::string> names() const;
  // "prefix.index" with this Weights' own prefix before it: a block as CopyToDevice takes it.
  std::string PathOf(std::string_view prefix, int64_t index) const;
  // Elements, and bytes on disk, of all tensors below the prefix.
  int64_t TotalParameters() const;
  int64_t TotalBytes() const;
  // Bytes of the wider copies below the prefix that exist by now, and of the changed tensors.
  int64_t WidenedBytes() const;
  int64_t ChangedBytes() const;
  // Lets go of what was read of the folder's files; whoever needs it again reads it again.
  void GiveBackFiles() const;
  const std::filesystem::path& folder() const;
  const std::string& variant() const;  // of the files; empty: plain

  // The same tensors in memory of the context's device, copied there at once: floats in the type of
  // its activations, but for matrices of blocks where the placement has a type for them
  // (Placement::weight_dtype); other types as they are; without those that Get would refuse. On the
  // CPU what has its type stays where it is. Weights in 8 bits must be finite (kInvalidFile). Views
  // that its Get returns are valid as long as any Weights made from it lives. Throws kOutOfMemory.
  // With a planning context they have shapes and types alone. The tensors of streamed blocks
  // (paths, in the order in which they run) stay in pinned memory of the host, and are on the GPU
  // for a WeightTurn alone; `pinned` has them already, where it is given: an earlier copy's of the
  // same blocks in the same types.
  Weights CopyToDevice(const Context& context, const std::vector<std::string>& streamed = {},
                       std::shared_ptr<const PinnedParts> pinned = nullptr) const;
  // The streamed blocks of such a copy; null: there are none.
  std::shared_ptr<const PinnedParts> pinned() const;
  // What CopyToDevice takes there, in bytes.
  size_t DeviceBytes(const Placement& placement,
                     const std::vector<std::string>& streamed = {}) const;
  // And what of the host's memory, pinned.
  size_t PinnedBytes(const Placement& placement, const std::vector<std::string>& streamed) const;
  // The element type that Get gives most elements below the prefix; f32 when there are none.
  DType MainDType() const;

  // Throws kInvalidFile naming the first tensor below the prefix that holds a NaN or an infinity.
  // Reads every byte once: memory bandwidth when the file is cached (24 GB: about 2 s), disk speed
  // when it is not.
  void CheckFinite(const Context& context) const;

 private:
  friend class WeightTurn;
  struct Store;
  std::string FullName(std::string_view name) const;  // throws where there is no such tensor
  int64_t BytesBelowPrefix(const std::map<std::string, Tensor, std::less<>>& copies) const;
  // Bytes of each streamed block on the placement's device.
  std::vector<size_t> BlockBytes(const Placement& placement,
                                 const std::vector<std::string>& streamed) const;
  Weights(std::shared_ptr<const Store> store, std::string prefix)
      : store_(std::move(store)), prefix_(std::move(prefix)) {}

  std::shared_ptr<const Store> store_;
  std::string prefix_;  // "" or ends in '.'
};

// While one lives, what is enqueued on the context's queue finds the weights of a block,
// "prefix.index" of `weights`, on the device; a thread holds one at a time. Nothing where they are
// there all the time. On its way already if the blocks run in their order.
class WeightTurn {
 public:
  WeightTurn(const Weights& weights, std::string_view prefix, int64_t index,
             const Context& context);
  ~WeightTurn();
  WeightTurn(const WeightTurn&) = delete;
  WeightTurn& operator=(const WeightTurn&) = delete;

 private:
  const Context& context_;
  std::shared_ptr<OffloadedParts> parts_;  // null: nothing to do
  size_t part_ = 0;
};

}  // namespace tamias
