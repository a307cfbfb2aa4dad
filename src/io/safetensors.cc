// Reading: parse and validate the header, then hand out views of the mapping. Writing: header
// padded to 64 bytes, data in order of falling element size so that every tensor is aligned.
#include "io/safetensors.h"

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>

#include "base/check.h"
#include "io/atomic_file.h"
#include "io/json_text.h"
#include "io/model_file.h"
#include "io/one_line.h"

namespace tamias {

using nlohmann::json;

namespace {

constexpr size_t kLengthBytes = 8;             // the header's length
constexpr size_t kMaxHeaderBytes = 100000000;  // the limit that the specification sets
constexpr size_t kDataAlignment = 64;

struct ElementType {
  std::string_view name;
  size_t bits;
  std::optional<DType> dtype;
};
// Every type of the specification; sub-byte types pack their elements.
constexpr ElementType kElementTypes[] = {
    {"F32", 32, DType::kF32},
    {"F16", 16, DType::kF16},
    {"BF16", 16, DType::kBF16},
    {"I32", 32, DType::kI32},
    {"I64", 64, DType::kI64},
    {"U8", 8, DType::kU8},
    {"F64", 64, {}},
    {"C64", 64, {}},
    {"U64", 64, {}},
    {"U32", 32, {}},
    {"I16", 16, {}},
    {"U16", 16, {}},
    {"I8", 8, {}},
    {"BOOL", 8, {}},
    {"F8_E4M3", 8, {}},
    {"F8_E5M2", 8, {}},
    {"F8_E8M0", 8, {}},
    {"F6_E2M3", 6, {}},
    {"F6_E3M2", 6, {}},
    {"F4", 4, {}},
};

const ElementType* FindElementType(std::string_view name) {
  const auto* it = std::ranges::find(kElementTypes, name, &ElementType::name);
  return it == std::end(kElementTypes) ? nullptr : it;
}

// Validates the header of one file and builds its entries.
class HeaderReader {
 public:
  HeaderReader(std::string path, std::span<const std::byte> file)
      : path_(std::move(path)), file_(file) {}

  json ReadHeader() {
    RefuseOtherFormats();
    if (file_.size() < kLengthBytes) {
      FailFile("cut off: {} bytes, a safetensors file has at least 8", file_.size());
    }
    uint64_t length = 0;
    for (size_t i = 0; i < kLengthBytes; ++i) length |= uint64_t(file_[i]) << (8 * i);
    if (length > kMaxHeaderBytes) {
      FailFile(
          "not a safetensors file: its first 8 bytes say a header of {} bytes, at most {} are read",
          length, kMaxHeaderBytes);
    }
    if (length > file_.size() - kLengthBytes) {
      FailFile("cut off: header of {} bytes in a file of {}", length, file_.size());
    }
    data_begin_ = kLengthBytes + static_cast<size_t>(length);
    const auto* text = reinterpret_cast<const char*>(file_.data()) + kLengthBytes;
    json header = ParseJson({text, static_cast<size_t>(length)}, path_);
    if (!header.is_object()) FailFile("header is not a JSON object");
    return header;
  }

  SafetensorsFile::Entry ReadEntry(const std::string& name, const json& value) const {
    SafetensorsFile::Entry entry;
    if (!value.is_object()) FailTensor(name, "expected an object");
    const ElementType* type = ReadType(name, value, entry);
    const uint64_t bits = ReadShape(name, value, entry, type == nullptr ? 0 : type->bits);
    const auto offsets = value.find("data_offsets");
    if (offsets == value.end() || !offsets->is_array() || offsets->size() != 2 ||
        !(*offsets)[0].is_number_unsigned() || !(*offsets)[1].is_number_unsigned()) {
      FailTensor(name, "data_offsets: expected two non-negative integers");
    }
    const uint64_t begin = (*offsets)[0].get<uint64_t>(), end = (*offsets)[1].get<uint64_t>();
    const uint64_t data_size = file_.size() - data_begin_;
    if (begin > end || end > data_size) {
      FailTensor(name, "data_offsets [{}, {}) are outside of the file's {} data bytes{}", begin,
                 end, data_size, begin > end ? "" : ": the file is cut off");
    }
    if (type != nullptr && (end - begin) != bits / 8) {
      FailTensor(name, "{} {} takes {} bytes, data_offsets [{}, {}) hold {}", type->name,
                 fmt::format("[{}]", fmt::join(entry.shape, ", ")), bits / 8, begin, end,
                 end - begin);
    }
    entry.begin = data_begin_ + static_cast<size_t>(begin);
    entry.end = data_begin_ + static_cast<size_t>(end);
    return entry;
  }

  // The data must be covered by the tensors without overlap or gap.
  template <typename Entries>
  void CheckCoverage(const Entries& entries) const {
    std::vector<const typename Entries::value_type*> order;
    for (const auto& item : entries) order.push_back(&item);
    std::ranges::stable_sort(order, [](const auto* a, const auto* b) {
      return std::pair(a->second.begin, a->second.end) < std::pair(b->second.begin, b->second.end);
    });
    size_t position = data_begin_;
    for (const auto* item : order) {
      if (item->second.begin != position) {
        FailTensor(item->first, "{} the data before it ({} bytes)",
                   item->second.begin < position ? "overlaps" : "leaves a gap after",
                   item->second.begin < position ? position - item->second.begin
                                                 : item->second.begin - position);
      }
      position = item->second.end;
    }
    if (position != file_.size()) {
      FailFile("{} bytes after the last tensor", file_.size() - position);
    }
  }

  template <typename... Args>
  [[noreturn]] void FailFile(fmt::format_string<Args...> format, Args&&... args) const {
    Fail(ErrorCode::kInvalidFile, "{}: {}", path_,
         fmt::format(format, std::forward<Args>(args)...));
  }
  template <typename... Args>
  [[noreturn]] void FailTensor(const std::string& name, fmt::format_string<Args...> format,
                               Args&&... args) const {
    Fail(ErrorCode::kInvalidFile, "{}: tensor '{}': {}", path_, OneLine(name),
         fmt::format(format, std::forward<Args>(args)...));
  }

 private:
  // Says what the file is when it does not even begin like safetensors.
  void RefuseOtherFormats() const {
    const std::string_view bytes(reinterpret_cast<const char*>(file_.data()), file_.size());
    const auto is_set = [](char c) { return c != 0; };
    const bool has_length = bytes.size() > kLengthBytes &&
                            std::ranges::none_of(bytes.substr(4, kLengthBytes - 4), is_set);
    if (has_length && bytes[kLengthBytes] == '{') return;
    RefuseForeignContent(path_, bytes);
    if (bytes.starts_with("{")) FailFile("this is JSON text, not tensors");
  }

  // Null for types that are not in the specification: that is for who reads the tensor to judge.
  const ElementType* ReadType(const std::string& name, const json& value,
                              SafetensorsFile::Entry& entry) const {
    const auto dtype = value.find("dtype");
    if (dtype == value.end() || !dtype->is_string()) FailTensor(name, "dtype: expected a string");
    entry.dtype_name = dtype->get<std::string>();
    const ElementType* type = FindElementType(entry.dtype_name);
    if (type != nullptr) entry.dtype = type->dtype;
    return type;
  }

  // Returns the size in bits, a multiple of 8. element_bits: 0 when unknown.
  uint64_t ReadShape(const std::string& name, const json& value, SafetensorsFile::Entry& entry,
                     size_t element_bits) const {
    const auto shape = value.find("shape");
    if (shape == value.end() || !shape->is_array()) FailTensor(name, "shape: expected an array");
    // Counted with empty axes taken as 1, so that strides cannot overflow either.
    int64_t bits = std::max<int64_t>(static_cast<int64_t>(element_bits), 1);
    bool is_empty = false;
    for (const json& dim : *shape) {
      if (!dim.is_number_unsigned() ||
          dim.get<uint64_t>() > uint64_t{std::numeric_limits<int64_t>::max()}) {
        FailTensor(name, "shape: expected non-negative integers, found {}", dim.dump());
      }
      entry.shape.push_back(dim.get<int64_t>());
      is_empty = is_empty || entry.shape.back() == 0;
      if (__builtin_mul_overflow(bits, std::max<int64_t>(entry.shape.back(), 1), &bits)) {
        FailTensor(name, "shape: the number of elements overflows");
      }
    }
    if (is_empty) return 0;
    if (element_bits != 0 && bits % 8 != 0) {
      FailTensor(name, "shape: not a whole number of bytes");
    }
    return static_cast<uint64_t>(bits);
  }

  std::string path_;
  std::span<const std::byte> file_;
  size_t data_begin_ = 0;
};

}  // namespace

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path) : path_(path), file_(path) {
  HeaderReader reader(path.string(), file_.bytes());
  const json header = reader.ReadHeader();
  for (const auto& item : header.items()) {
    if (item.key() != "__metadata__") {
      entries_.emplace(item.key(), reader.ReadEntry(item.key(), item.value()));
      continue;
    }
    if (item.value().is_null()) continue;
    if (!item.value().is_object()) reader.FailFile("__metadata__: expected an object");
    for (const auto& field : item.value().items()) {
      if (!field.value().is_string()) {
        reader.FailFile("__metadata__: '{}': expected a string", OneLine(field.key()));
      }
      metadata_.emplace(field.key(), field.value().get<std::string>());
    }
  }
  reader.CheckCoverage(entries_);
  CopyMisaligned();
}

void SafetensorsFile::CopyMisaligned() {
  for (const auto& [name, entry] : entries_) {
    if (!entry.dtype || entry.begin == entry.end || entry.begin % SizeOf(*entry.dtype) == 0) {
      continue;
    }
    Tensor copy({static_cast<int64_t>(entry.end - entry.begin)}, DType::kU8);
    std::memcpy(copy.host_data<uint8_t>(), file_.bytes().data() + entry.begin,
                entry.end - entry.begin);
    aligned_copies_.emplace(name, std::move(copy));
  }
}

const SafetensorsFile::Entry& SafetensorsFile::Find(std::string_view name) const {
  const auto it = entries_.find(name);
  if (it == entries_.end()) {
    Fail(ErrorCode::kNotFound, "{}: tensor '{}': missing", path_.string(), OneLine(name));
  }
  return it->second;
}

Shape SafetensorsFile::ShapeOf(std::string_view name) const {
  const Entry& entry = Find(name);
  if (entry.shape.size() > Shape::kMaxRank) {
    Fail(ErrorCode::kUnsupported, "{}: tensor '{}': {} axes, at most {} are supported",
         path_.string(), OneLine(name), entry.shape.size(), Shape::kMaxRank);
  }
  return Shape(std::span<const int64_t>(entry.shape));
}

std::span<const std::byte> SafetensorsFile::BytesOf(std::string_view name) const {
  const Entry& entry = Find(name);
  return file_.bytes().subspan(entry.begin, entry.end - entry.begin);
}

ConstTensorView SafetensorsFile::Get(std::string_view name) const {
  const Entry& entry = Find(name);
  if (!entry.dtype) {
    Fail(ErrorCode::kUnsupported, "{}: tensor '{}': element type {} is not supported",
         path_.string(), OneLine(name), OneLine(entry.dtype_name));
  }
  const Shape shape = ShapeOf(name);
  const auto copy = aligned_copies_.find(name);
  const void* data = copy != aligned_copies_.end()
                         ? static_cast<const void*>(copy->second.host_data<uint8_t>())
                         : file_.bytes().data() + entry.begin;
  // An empty tensor at a misaligned place has no element to misread, but its pointer must still be
  // fit for its type.
  if (entry.begin == entry.end) data = file_.bytes().data();
  return {data, *entry.dtype, shape};
}

namespace {

std::string_view FormatName(DType dtype) {
  const auto* it = std::ranges::find(kElementTypes, std::optional(dtype), &ElementType::dtype);
  return it->name;
}

// Writes a view's elements in row-major order, without a copy where it is contiguous.
void WriteElements(AtomicFile& file, ConstTensorView tensor) {
  const size_t bytes = static_cast<size_t>(tensor.NumElements()) * SizeOf(tensor.dtype());
  if (bytes == 0) return;
  if (tensor.IsContiguous()) {
    file.Write(tensor.raw(), bytes);
  } else {
    const Tensor copy = Tensor::CopyOf(tensor);
    file.Write(copy.view().raw(), bytes);
  }
}

}  // namespace

void WriteSafetensors(const std::filesystem::path& path, std::span<const NamedTensor> tensors,
                      const std::map<std::string, std::string>& metadata) {
  std::vector<const NamedTensor*> order;
  for (const NamedTensor& tensor : tensors) order.push_back(&tensor);
  std::ranges::stable_sort(order, [](const NamedTensor* a, const NamedTensor* b) {
    return SizeOf(a->tensor.dtype()) > SizeOf(b->tensor.dtype());
  });
  json header = json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  size_t offset = 0;
  for (const NamedTensor* item : order) {
    if (item->name == "__metadata__" || header.contains(item->name)) {
      Fail(ErrorCode::kInvalidArgument, "{}: tensor '{}': name occurs twice or is reserved",
           path.string(), OneLine(item->name));
    }
    const size_t bytes =
        static_cast<size_t>(item->tensor.NumElements()) * SizeOf(item->tensor.dtype());
    header[item->name] = {{"dtype", FormatName(item->tensor.dtype())},
                          {"shape", item->tensor.shape().dims()},
                          {"data_offsets", {offset, offset + bytes}}};
    offset += bytes;
  }
  std::string text;
  try {
    text = header.dump();
  } catch (const json::exception&) {
    Fail(ErrorCode::kInvalidArgument, "{}: tensor names and metadata must be UTF-8", path.string());
  }
  const size_t unpadded = kLengthBytes + text.size();
  text.append((kDataAlignment - unpadded % kDataAlignment) % kDataAlignment, ' ');

  AtomicFile file(path);
  char length[kLengthBytes];
  for (size_t i = 0; i < kLengthBytes; ++i) {
    length[i] = static_cast<char>((text.size() >> (8 * i)) & 0xFF);
  }
  file.Write(length, sizeof(length));
  file.Write(text);
  for (const NamedTensor* item : order) WriteElements(file, item->tensor);
  file.Commit();
}

}  // namespace tamias
