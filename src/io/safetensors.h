// The safetensors format: 8 bytes of header length N (little-endian), N bytes of JSON
// {"name": {"dtype", "shape", "data_offsets": [begin, end]}, "__metadata__": {str: str}}, then the
// tensor bytes. Files are memory-mapped; what locates the tensors is validated against the file's
// size before any is handed out. Element types are judged when a tensor is asked for, and fields
// that the format does not have are left alone. Source: the format's specification at
// https://huggingface.co/docs/safetensors.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/mapped_file.h"
#include "tamias/tensor.h"

namespace tamias {

class SafetensorsFile {
 public:
  struct Entry {
    std::string dtype_name;      // as in the file: "F32", "BF16", "F8_E4M3", ...
    std::optional<DType> dtype;  // empty for types that Tamias does not compute with
    std::vector<int64_t> shape;
    size_t begin = 0;  // bytes from the start of the file
    size_t end = 0;
  };

  // Throws kNotFound, kIo, or kInvalidFile with "path: tensor 'name': problem".
  explicit SafetensorsFile(const std::filesystem::path& path);

  // The tensor's bytes in place: valid as long as this object. Throws kNotFound, or kUnsupported
  // for element types that Tamias does not compute with and for more than Shape::kMaxRank axes.
  // (Tensors that an old writer placed at addresses unfit for their type were copied when the file
  // was opened.)
  ConstTensorView Get(std::string_view name) const;
  // The same of any element type: shape (kUnsupported as above), and bytes at any address.
  Shape ShapeOf(std::string_view name) const;
  std::span<const std::byte> BytesOf(std::string_view name) const;

  // MappedFile's: views stay as they are.
  void GiveBack() const { file_.GiveBack(); }

  bool Has(std::string_view name) const { return entries_.contains(name); }
  const std::map<std::string, Entry, std::less<>>& entries() const { return entries_; }
  const std::map<std::string, std::string, std::less<>>& metadata() const { return metadata_; }
  const std::filesystem::path& path() const { return path_; }

 private:
  void CopyMisaligned();
  const Entry& Find(std::string_view name) const;

  std::filesystem::path path_;
  MappedFile file_;
  std::map<std::string, Entry, std::less<>> entries_;
  std::map<std::string, std::string, std::less<>> metadata_;
  std::map<std::string, Tensor, std::less<>> aligned_copies_;
};

struct NamedTensor {
  std::string name;
  ConstTensorView tensor;  // any strides
};

// Writes a file atomically (a temporary name, then a rename). Data start at a multiple of 64 bytes.
// Throws kIo, or kInvalidArgument for duplicate names.
void WriteSafetensors(const std::filesystem::path& path, std::span<const NamedTensor> tensors,
                      const std::map<std::string, std::string>& metadata = {});

}  // namespace tamias
