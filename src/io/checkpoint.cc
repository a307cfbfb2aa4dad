// A component folder's tensors: one file, or shards with a weight_map.
#include "io/checkpoint.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>

#include "base/device_memory.h"
#include "base/parallel.h"
#include "io/json.h"
#include "io/one_line.h"
#include "io/safetensors.h"

namespace tamias {

struct Weights::Store {
  std::filesystem::path folder;
  std::vector<std::unique_ptr<SafetensorsFile>> files;
  std::map<std::string, const SafetensorsFile*, std::less<>> tensors;
  // Of weights on a device: the tensors there, and the store of the files.
  std::map<std::string, Tensor, std::less<>> on_device;
  std::shared_ptr<const Store> source;
};

namespace {

constexpr std::string_view kSingleFiles[] = {"diffusion_pytorch_model.safetensors",
                                             "model.safetensors"};
constexpr std::string_view kIndexSuffix = ".safetensors.index.json";

// The folder's index file, or an empty path.
std::filesystem::path FindIndex(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> found;
  std::error_code error;
  for (const auto& item : std::filesystem::directory_iterator(folder, error)) {
    if (item.path().filename().string().ends_with(kIndexSuffix)) found.push_back(item.path());
  }
  std::ranges::sort(found);
  if (found.size() > 1) {
    Fail(ErrorCode::kInvalidFile, "{}: two index files, {} and {}", folder.string(),
         found[0].filename().string(), found[1].filename().string());
  }
  return found.empty() ? std::filesystem::path() : found[0];
}

// A shard is a plain file name: nothing may lead out of the folder.
bool IsPlainFileName(const std::string& name) {
  return std::filesystem::path(name).filename() == name && name.ends_with(".safetensors") &&
         name.find('\0') == name.npos;
}

// Elements of one 16- or 32-bit float type whose exponent bits are all ones: NaN or infinity.
template <typename Bits>
bool HasNonFinite(const Bits* values, int64_t count, Bits exponent) {
  Bits found = 0;
  for (int64_t i = 0; i < count; ++i) {
    found |= static_cast<Bits>((values[i] & exponent) == exponent);
  }
  return found != 0;
}

bool IsFloat(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16;
}

DType DTypeOn(const Placement& placement, DType dtype) {
  return IsFloat(dtype) ? placement.activation_dtype : dtype;
}

float ElementOf(const ConstTensorView& flat, int64_t i) {
  switch (flat.dtype()) {
    case DType::kF16:
      return ToFloat(static_cast<const Float16*>(flat.raw())[i]);
    case DType::kBF16:
      return ToFloat(static_cast<const BFloat16*>(flat.raw())[i]);
    default:
      return static_cast<const float*>(flat.raw())[i];
  }
}

// A contiguous float tensor in another float type.
Tensor Converted(const Context& context, ConstTensorView source, DType dtype) {
  Tensor result(source.shape(), dtype);
  constexpr int64_t kGrain = int64_t{1} << 16;  // elements
  ParallelForRanges(context, source.NumElements(), kGrain, [&](int64_t begin, int64_t end, int) {
    void* values = result.view().raw();
    for (int64_t i = begin; i < end; ++i) {
      const float value = ElementOf(source, i);
      if (dtype == DType::kF16) {
        static_cast<Float16*>(values)[i] = ToFloat16(value);
      } else if (dtype == DType::kBF16) {
        static_cast<BFloat16*>(values)[i] = ToBFloat16(value);
      } else {
        static_cast<float*>(values)[i] = value;
      }
    }
  });
  return result;
}

bool HasNonFinite(ConstTensorView flat, int64_t begin, int64_t end) {
  switch (flat.dtype()) {
    case DType::kF32:
      return HasNonFinite<uint32_t>(static_cast<const uint32_t*>(flat.raw()) + begin, end - begin,
                                    0x7F800000u);
    case DType::kF16:
      return HasNonFinite<uint16_t>(static_cast<const uint16_t*>(flat.raw()) + begin, end - begin,
                                    0x7C00u);
    case DType::kBF16:
      return HasNonFinite<uint16_t>(static_cast<const uint16_t*>(flat.raw()) + begin, end - begin,
                                    0x7F80u);
    default:
      return false;
  }
}

}  // namespace

Weights Weights::Open(const std::filesystem::path& folder) {
  std::error_code error;
  if (!std::filesystem::is_directory(folder, error)) {
    Fail(ErrorCode::kNotFound, "{}: no such folder", folder.string());
  }
  auto store = std::make_shared<Store>();
  store->folder = folder;
  for (const std::string_view name : kSingleFiles) {
    if (!std::filesystem::exists(folder / name, error)) continue;
    store->files.push_back(std::make_unique<SafetensorsFile>(folder / name));
    for (const auto& [tensor, entry] : store->files[0]->entries()) {
      store->tensors.emplace(tensor, store->files[0].get());
    }
    return {std::move(store), ""};
  }
  const std::filesystem::path index_path = FindIndex(folder);
  if (index_path.empty()) {
    Fail(ErrorCode::kNotFound,
         "{}: no weights (diffusion_pytorch_model.safetensors, model.safetensors or "
         "*.safetensors.index.json)",
         folder.string());
  }
  const JsonObject index = JsonObject::Load(index_path);
  const JsonObject weight_map = index.Object("weight_map");
  std::map<std::string, const SafetensorsFile*> shards;
  for (const std::string& tensor : weight_map.Keys()) {
    const std::string shard = weight_map.String(tensor);
    if (!IsPlainFileName(shard)) {
      weight_map.FailField(tensor, "expected the name of a .safetensors file in the same folder");
    }
    const SafetensorsFile*& file = shards[shard];
    if (file == nullptr) {
      store->files.push_back(std::make_unique<SafetensorsFile>(folder / shard));
      file = store->files.back().get();
    }
    if (!file->Has(tensor)) {
      weight_map.FailField(tensor, fmt::format("{} holds no such tensor", shard));
    }
    store->tensors.emplace(tensor, file);
  }
  return {std::move(store), ""};
}

ConstTensorView Weights::Get(std::string_view name) const {
  const std::string full = prefix_ + std::string(name);
  const auto it = store_->tensors.find(full);
  if (it == store_->tensors.end()) {
    Fail(ErrorCode::kInvalidFile, "{}: tensor '{}': missing", store_->folder.string(), full);
  }
  const auto copy = store_->on_device.find(full);
  if (copy != store_->on_device.end()) return copy->second.view();
  return it->second->Get(full);
}

ConstTensorView Weights::Get(std::string_view name, const Shape& expected) const {
  const ConstTensorView tensor = Get(name);
  if (tensor.shape() != expected) {
    const std::string full = prefix_ + std::string(name);
    Fail(ErrorCode::kInvalidFile, "{}: tensor '{}': expected shape {}, found {}",
         store_->tensors.find(full)->second->path().string(), full, expected.ToString(),
         tensor.shape().ToString());
  }
  return tensor;
}

bool Weights::Has(std::string_view name) const {
  return store_->tensors.contains(prefix_ + std::string(name));
}

Weights Weights::Sub(std::string_view prefix) const {
  return {store_, fmt::format("{}{}.", prefix_, prefix)};
}

Weights Weights::Sub(std::string_view prefix, int64_t index) const {
  return {store_, fmt::format("{}{}.{}.", prefix_, prefix, index)};
}

std::vector<std::string> Weights::names() const {
  std::vector<std::string> names;
  for (auto it = store_->tensors.lower_bound(prefix_);
       it != store_->tensors.end() && it->first.starts_with(prefix_); ++it) {
    names.push_back(it->first.substr(prefix_.size()));
  }
  return names;
}

int64_t Weights::TotalParameters() const {
  int64_t total = 0;
  for (const std::string& name : names()) {
    const std::string full = prefix_ + name;
    const auto& entry = store_->tensors.find(full)->second->entries().find(full)->second;
    int64_t count = 1;
    for (const int64_t dim : entry.shape) count *= dim;  // the file's validation excludes overflow
    total += count;
  }
  return total;
}

int64_t Weights::TotalBytes() const {
  int64_t total = 0;
  for (const std::string& name : names()) {
    const std::string full = prefix_ + name;
    const auto& entry = store_->tensors.find(full)->second->entries().find(full)->second;
    total += static_cast<int64_t>(entry.end - entry.begin);
  }
  return total;
}

const std::filesystem::path& Weights::folder() const { return store_->folder; }

Weights Weights::CopyToDevice(const Context& context) const {
  auto store = std::make_shared<Store>();
  store->folder = store_->folder;
  store->source = store_;
  for (const std::string& name : names()) {
    const std::string full = prefix_ + name;
    const ConstTensorView tensor = Get(name);
    const DType dtype = DTypeOn(context.placement(), tensor.dtype());
    store->tensors.emplace(full, store_->tensors.find(full)->second);
    store->on_device.emplace(
        full, tensor.dtype() == dtype
                  ? tamias::CopyToDevice(context, tensor)
                  : tamias::CopyToDevice(context, Converted(context, tensor, dtype)));
  }
  return {std::move(store), prefix_};
}

size_t Weights::DeviceBytes(const Placement& placement) const {
  size_t bytes = 0;
  for (const std::string& name : names()) {
    const ConstTensorView tensor = Get(name);
    bytes += static_cast<size_t>(tensor.NumElements()) * SizeOf(DTypeOn(placement, tensor.dtype()));
  }
  return bytes;
}

DType Weights::MainDType() const {
  std::map<DType, int64_t> elements;
  for (const std::string& name : names()) {
    const ConstTensorView tensor = Get(name);
    elements[tensor.dtype()] += tensor.NumElements();
  }
  const auto most =
      std::ranges::max_element(elements, {}, &std::pair<const DType, int64_t>::second);
  return most == elements.end() ? DType::kF32 : most->first;
}

void Weights::CheckFinite(const Context& context) const {
  struct Chunk {
    std::string name;
    ConstTensorView tensor;
    int64_t begin, end;
  };
  constexpr int64_t kChunkElements = int64_t{1} << 20;  // large against the cost of handing one out
  std::vector<Chunk> chunks;
  for (const std::string& name : names()) {
    const std::string full = prefix_ + name;
    const auto& entry = store_->tensors.find(full)->second->entries().find(full)->second;
    if (!entry.dtype || entry.shape.size() > Shape::kMaxRank) continue;
    const ConstTensorView tensor = Get(name);
    const int64_t count = tensor.NumElements();
    for (int64_t begin = 0; begin < count; begin += kChunkElements) {
      chunks.push_back({full, tensor, begin, std::min(count, begin + kChunkElements)});
    }
  }
  const int64_t count = static_cast<int64_t>(chunks.size());
  std::atomic<int64_t> first{count};
  ParallelForDynamic(context, count, [&](int64_t i, int) {
    const Chunk& chunk = chunks[static_cast<size_t>(i)];
    if (i >= first.load() || !HasNonFinite(chunk.tensor, chunk.begin, chunk.end)) return;
    for (int64_t seen = first.load(); i < seen && !first.compare_exchange_weak(seen, i);) {
    }
  });
  if (first == count) return;
  const Chunk& chunk = chunks[static_cast<size_t>(first.load())];
  int64_t element = chunk.begin;
  while (!HasNonFinite(chunk.tensor, element, element + 1)) ++element;
  Fail(ErrorCode::kInvalidFile, "{}: tensor '{}': element {} is not a finite number",
       store_->tensors.find(chunk.name)->second->path().string(), OneLine(chunk.name), element);
}

}  // namespace tamias
