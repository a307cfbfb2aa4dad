// A component folder's tensors, from one file or several.
#include "tamias/weights.h"

#include <algorithm>
#include <atomic>
#include <map>
#include <mutex>
#include <optional>

#include "base/check.h"
#include "base/offloaded_parts.h"
#include "base/parallel.h"
#include "base/pinned_upload.h"
#include "io/float_values.h"
#include "io/model_file.h"
#include "io/one_line.h"
#include "io/quantise.h"
#include "io/safetensors.h"
#include "io/weight_files.h"
#include "io/widen.h"
#include "tamias/device_memory.h"

namespace tamias {

struct Weights::Store {
  std::filesystem::path folder;
  std::string variant;
  std::vector<std::shared_ptr<const SafetensorsFile>> files;
  std::map<std::string, const SafetensorsFile*, std::less<>> tensors;
  std::map<std::string, Change, std::less<>> changes;
  // Copies in a wider type, and changed ones, made when a tensor is first asked for.
  mutable std::mutex making;
  mutable std::map<std::string, Tensor, std::less<>> widened, changed;
  // Of weights on a device: the tensors there, and the store of the files.
  std::map<std::string, Tensor, std::less<>> on_device;
  std::map<std::string, Tensor, std::less<>> row_scales;  // of matrices of 8-bit floats there
  std::shared_ptr<const Store> source;
  // Of streamed blocks, by path; their tensors in on_device lie in these.
  std::shared_ptr<OffloadedParts> parts;
  std::map<std::string, size_t, std::less<>> part_of;

  const SafetensorsFile::Entry& EntryOf(const std::string& name) const {
    return tensors.find(name)->second->entries().find(name)->second;
  }
  ConstTensorView OnDevice(const std::string& name) const;
  ConstTensorView OnHost(const std::string& name) const;
  ConstTensorView Widen(const std::string& name) const;
  bool IsScaled(std::string_view name) const;
  std::optional<DType> ServedType(const std::string& name) const;
};

namespace {

bool IsFloat(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16 ||
         dtype == DType::kF8E4M3;
}

// A matrix of a transformer's block, "blocks.3.attn.to_q.weight": those are linear layers all,
// which embeddings and what ends in patches need not be.
bool IsMatrixOfBlock(std::string_view name, const Shape& shape) {
  constexpr std::string_view kBlocks = "blocks.";
  const size_t found = name.find(kBlocks);
  if (found == name.npos || shape.rank() != 2 || !name.ends_with(".weight")) return false;
  const char number = name[found + kBlocks.size()];
  return '0' <= number && number <= '9';
}

// The type in which a tensor that is served in `served` lies on a device.
DType DTypeOn(const Placement& placement, std::string_view name, const Shape& shape, DType served) {
  if (!IsFloat(served)) return served;
  if (placement.weight_dtype && IsMatrixOfBlock(name, shape)) return *placement.weight_dtype;
  return placement.activation_dtype;
}

// On the CPU weights are read where they lie, unless they are to have another type.
bool StaysInPlace(const Placement& placement, DType served, DType dtype) {
  return !placement.IsOnGpu() && dtype == served;
}

// The scales of a matrix of 8-bit floats; of other tensors none.
Shape ScalesOf(const Shape& shape, DType dtype) { return {dtype == DType::kF8E4M3 ? shape[0] : 0}; }

}  // namespace

// Whether a layer has numbers beside its weight that this must be multiplied with: quantised
// checkpoints store 8-bit floats so. Names in use: weight_scale, scale_weight, weight_scale_inv.
bool Weights::Store::IsScaled(std::string_view name) const {
  if (tensors.contains("scaled_fp8")) return true;
  constexpr std::string_view kWeight = "weight";
  if (!name.ends_with(kWeight)) return false;
  const std::string_view layer = name.substr(0, name.size() - kWeight.size());
  for (auto it = tensors.lower_bound(layer); it != tensors.end(); ++it) {
    if (!it->first.starts_with(layer)) break;
    const std::string_view rest = std::string_view(it->first).substr(layer.size());
    const bool is_of_weight = rest.starts_with("weight") || rest.starts_with("scale");
    if (is_of_weight && rest.find("scale") != rest.npos) return true;
  }
  return false;
}

// The type that Get hands a tensor out in; empty where it throws.
std::optional<DType> Weights::Store::ServedType(const std::string& name) const {
  const SafetensorsFile::Entry& entry = EntryOf(name);
  if (entry.shape.size() > Shape::kMaxRank) return std::nullopt;
  if (entry.dtype) return entry.dtype;
  return IsScaled(name) ? std::nullopt : WidenedType(entry.dtype_name);
}

ConstTensorView Weights::Store::OnDevice(const std::string& name) const {
  const ConstTensorView tensor = on_device.find(name)->second.view();
  const auto scales = row_scales.find(name);
  if (scales == row_scales.end()) return tensor;
  return tensor.WithRowScales(scales->second.data<float>());
}

ConstTensorView Weights::Store::OnHost(const std::string& name) const {
  const ConstTensorView of_file =
      EntryOf(name).dtype ? tensors.find(name)->second->Get(name) : Widen(name);
  const auto change = changes.find(name);
  if (change == changes.end() || !IsFloat(of_file.dtype())) return of_file;
  const std::lock_guard lock(making);
  auto it = changed.find(name);
  if (it == changed.end()) it = changed.emplace(name, change->second(of_file)).first;
  return it->second.view();
}

ConstTensorView Weights::Store::Widen(const std::string& name) const {
  const SafetensorsFile& file = *tensors.find(name)->second;
  const std::string& dtype = EntryOf(name).dtype_name;
  if (!WidenedType(dtype)) {
    Fail(ErrorCode::kUnsupported,
         "{}: tensor '{}': element type {} is not supported: weights must be floating-point "
         "numbers (of quantised ones there is no reader)",
         file.path().string(), OneLine(name), OneLine(dtype));
  }
  if (IsScaled(name)) {
    Fail(ErrorCode::kUnsupported,
         "{}: tensor '{}': {} with scales beside it: quantised weights are not supported",
         file.path().string(), OneLine(name), dtype);
  }
  const Shape shape = file.ShapeOf(name);
  const std::lock_guard lock(making);
  auto it = widened.find(name);
  if (it == widened.end()) {
    it = widened.emplace(name, Widened(dtype, file.BytesOf(name), shape)).first;
  }
  return it->second.view();
}

Weights Weights::Open(const std::filesystem::path& folder, const WeightRequest& request) {
  RequireFolder(folder);
  WeightFiles found = FindWeightFiles(folder, request);
  auto store = std::make_shared<Store>();
  store->folder = folder;
  store->variant = std::move(found.variant);
  for (const std::filesystem::path& path : found.files) {
    store->files.push_back(std::make_shared<SafetensorsFile>(path));
    const SafetensorsFile* file = store->files.back().get();
    // All that lies in a shard, whether its index names it or not, as diffusers and transformers.
    for (const auto& [tensor, entry] : file->entries()) {
      store->tensors.insert_or_assign(tensor, file);
    }
  }
  return {std::move(store), ""};
}

Weights Weights::WithChanges(std::map<std::string, Change, std::less<>> changes) const {
  TAMIAS_CHECK(prefix_.empty() && store_->source == nullptr && store_->changes.empty());
  auto store = std::make_shared<Store>();
  store->folder = store_->folder;
  store->variant = store_->variant;
  store->files = store_->files;
  store->tensors = store_->tensors;
  store->changes = std::move(changes);
  return {std::move(store), ""};
}

ConstTensorView Weights::Get(std::string_view name) const {
  const std::string full = FullName(name);
  const auto copy = store_->on_device.find(full);
  if (copy != store_->on_device.end()) return store_->OnDevice(full);
  const Store& files = store_->source != nullptr ? *store_->source : *store_;
  return files.OnHost(full);
}

ConstTensorView Weights::Get(std::string_view name, const Shape& expected) const {
  const ConstTensorView tensor = Get(name);
  const auto fail = [&](ErrorCode code, const std::string& problem) {
    const std::string full = prefix_ + std::string(name);
    Fail(code, "{}: tensor '{}': {}", store_->tensors.find(full)->second->path().string(),
         OneLine(full), problem);
  };
  if (!IsFloat(tensor.dtype())) {
    fail(ErrorCode::kUnsupported,
         fmt::format("expected floating-point numbers, found {}: quantised weights are not "
                     "supported",
                     Name(tensor.dtype())));
  }
  if (tensor.shape() != expected) {
    fail(ErrorCode::kInvalidFile, fmt::format("expected shape {}, found {}", expected.ToString(),
                                              tensor.shape().ToString()));
  }
  return tensor;
}

std::string Weights::FullName(std::string_view name) const {
  std::string full = prefix_ + std::string(name);
  if (!store_->tensors.contains(full)) {
    Fail(ErrorCode::kInvalidFile, "{}: tensor '{}': missing", store_->folder.string(),
         OneLine(full));
  }
  return full;
}

std::vector<int64_t> Weights::Dims(std::string_view name) const {
  return store_->EntryOf(FullName(name)).shape;
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
    int64_t count = 1;
    for (const int64_t dim : store_->EntryOf(full).shape)
      count *= dim;  // the file's validation excludes overflow
    total += count;
  }
  return total;
}

int64_t Weights::TotalBytes() const {
  int64_t total = 0;
  for (const std::string& name : names()) {
    const std::string full = prefix_ + name;
    const SafetensorsFile::Entry& entry = store_->EntryOf(full);
    total += static_cast<int64_t>(entry.end - entry.begin);
  }
  return total;
}

int64_t Weights::BytesBelowPrefix(const std::map<std::string, Tensor, std::less<>>& copies) const {
  const std::lock_guard lock(store_->making);
  int64_t total = 0;
  for (auto it = copies.lower_bound(prefix_); it != copies.end() && it->first.starts_with(prefix_);
       ++it) {
    total += static_cast<int64_t>(it->second.bytes());
  }
  return total;
}

int64_t Weights::WidenedBytes() const { return BytesBelowPrefix(store_->widened); }

int64_t Weights::ChangedBytes() const { return BytesBelowPrefix(store_->changed); }

void Weights::GiveBackFiles() const {
  for (const auto& file : store_->files) file->GiveBack();
}

const std::filesystem::path& Weights::folder() const { return store_->folder; }

const std::string& Weights::variant() const { return store_->variant; }

namespace {

// Of the streamed blocks the one that a tensor belongs to; empty: it stays on the device.
std::optional<size_t> BlockOf(const std::string& tensor, const std::vector<std::string>& streamed) {
  for (size_t block = 0; block < streamed.size(); ++block) {
    const std::string& path = streamed[block];
    if (tensor.starts_with(path) && tensor[path.size()] == '.') return block;
  }
  return std::nullopt;
}

constexpr size_t kPartAlignment = 256;  // of a tensor in a block

size_t Bytes(const Shape& shape, DType dtype) {
  return static_cast<size_t>(shape.NumElements()) * SizeOf(dtype);
}

size_t AlignedBytes(const Shape& shape, DType dtype) {
  const size_t bytes = Bytes(shape, dtype);
  return (bytes + kPartAlignment - 1) / kPartAlignment * kPartAlignment;
}

// Copies of the host's tensors on a device: in memory of their own, or one after another in the
// memory of a streamed block.
class DeviceCopies {
 public:
  // parts: of the streamed blocks; null: there are none, as where the context is planning.
  DeviceCopies(const Context& context, std::shared_ptr<OffloadedParts> parts)
      : context_(context), parts_(std::move(parts)) {
    if (context.IsOnGpu() && !context.IsPlanning()) upload_.emplace(context);
  }

  // The tensor may go once this returns.
  Tensor Make(ConstTensorView tensor, std::optional<size_t> block) {
    if (block) {
      ParallelCopy(context_, tensor.raw(),
                   static_cast<int64_t>(Bytes(tensor.shape(), tensor.dtype())),
                   parts_->host_memory(*block) + used_[*block]);
      return Place(tensor.shape(), tensor.dtype(), block);
    }
    Tensor copy = Place(tensor.shape(), tensor.dtype(), block);
    if (upload_) {
      upload_->Copy(tensor, copy);
    } else {
      CopyOnHost(tensor, copy);
    }
    return copy;
  }

  // A copy's memory alone: the next of a block, whose place in the host's memory may have the
  // contents already.
  Tensor Place(const Shape& shape, DType dtype, std::optional<size_t> block) {
    if (!block || parts_ == nullptr) return TensorOn(context_, shape, dtype);
    size_t& position = used_[*block];
    std::shared_ptr<std::byte> memory(parts_, parts_->device_memory(*block) + position);
    position += AlignedBytes(shape, dtype);
    return Tensor(std::move(memory), shape, dtype, context_.device());
  }

 private:
  const Context& context_;
  std::shared_ptr<OffloadedParts> parts_;
  std::optional<PinnedUpload> upload_;
  std::map<size_t, size_t> used_;  // bytes of the blocks
};

}  // namespace

std::string Weights::PathOf(std::string_view prefix, int64_t index) const {
  return fmt::format("{}{}.{}", prefix_, prefix, index);
}

std::shared_ptr<const PinnedParts> Weights::pinned() const {
  return store_->parts == nullptr ? nullptr : store_->parts->host();
}

Weights Weights::CopyToDevice(const Context& context, const std::vector<std::string>& streamed,
                              std::shared_ptr<const PinnedParts> pinned) const {
  const Placement& placement = context.placement();
  auto store = std::make_shared<Store>();
  store->folder = store_->folder;
  store->variant = store_->variant;
  store->source = store_;
  const bool is_pinned = pinned != nullptr;
  if (!streamed.empty() && !context.IsPlanning()) {
    if (!is_pinned) {
      pinned = std::make_shared<PinnedParts>(placement.device, BlockBytes(placement, streamed));
    }
    store->parts = std::make_shared<OffloadedParts>(placement.device, std::move(pinned));
    for (size_t block = 0; block < streamed.size(); ++block) {
      store->part_of.emplace(streamed[block], block);
    }
  }
  DeviceCopies copies(context, store->parts);
  for (const std::string& name : names()) {
    const std::string full = prefix_ + name;
    const SafetensorsFile* file = store_->tensors.find(full)->second;
    store->tensors.emplace(full, file);
    const std::optional<DType> served = store_->ServedType(full);
    if (!served) continue;  // no model asks for it
    const Shape shape = file->ShapeOf(full);
    const DType dtype = DTypeOn(placement, full, shape, *served);
    if (StaysInPlace(placement, *served, dtype)) continue;
    const std::optional<size_t> block = BlockOf(full, streamed);
    const bool is_quantised = dtype == DType::kF8E4M3;
    if (context.IsPlanning() || (block && is_pinned)) {  // nothing to copy
      store->on_device.emplace(full, copies.Place(shape, dtype, block));
      if (is_quantised) {
        store->row_scales.emplace(full, copies.Place(ScalesOf(shape, dtype), DType::kF32, block));
      }
      continue;
    }
    const ConstTensorView tensor = Get(name);
    if (is_quantised) {
      const std::optional<QuantisedMatrix> quantised = Quantise(context, tensor);
      if (!quantised) CheckFinite(context);
      TAMIAS_CHECK(quantised.has_value());
      store->on_device.emplace(full, copies.Make(quantised->codes, block));
      store->row_scales.emplace(full, copies.Make(quantised->scales, block));
    } else if (tensor.dtype() != dtype) {
      store->on_device.emplace(full, copies.Make(Converted(context, tensor, dtype), block));
    } else {
      store->on_device.emplace(full, copies.Make(tensor, block));
    }
  }
  return {std::move(store), prefix_};
}

std::vector<size_t> Weights::BlockBytes(const Placement& placement,
                                        const std::vector<std::string>& streamed) const {
  std::vector<size_t> bytes(streamed.size(), 0);
  for (const std::string& name : names()) {
    const std::string full = prefix_ + name;
    const std::optional<size_t> block = BlockOf(full, streamed);
    const std::optional<DType> served = store_->ServedType(full);
    if (!block || !served) continue;
    const Shape shape = store_->tensors.find(full)->second->ShapeOf(full);
    const DType dtype = DTypeOn(placement, full, shape, *served);
    bytes[*block] += AlignedBytes(shape, dtype) + AlignedBytes(ScalesOf(shape, dtype), DType::kF32);
  }
  return bytes;
}

size_t Weights::DeviceBytes(const Placement& placement,
                            const std::vector<std::string>& streamed) const {
  size_t bytes = OffloadedParts::DeviceBytes(BlockBytes(placement, streamed));
  for (const std::string& name : names()) {
    const std::string full = prefix_ + name;
    const std::optional<DType> served = store_->ServedType(full);
    if (!served || BlockOf(full, streamed)) continue;
    const Shape shape = store_->tensors.find(full)->second->ShapeOf(full);
    const DType dtype = DTypeOn(placement, full, shape, *served);
    if (StaysInPlace(placement, *served, dtype)) continue;
    bytes += Bytes(shape, dtype) + Bytes(ScalesOf(shape, dtype), DType::kF32);
  }
  return bytes;
}

size_t Weights::PinnedBytes(const Placement& placement,
                            const std::vector<std::string>& streamed) const {
  size_t bytes = 0;
  for (const size_t block : BlockBytes(placement, streamed)) bytes += block;
  return bytes;
}

WeightTurn::WeightTurn(const Weights& weights, std::string_view prefix, int64_t index,
                       const Context& context)
    : context_(context) {
  const Weights::Store& store = *weights.store_;
  if (store.parts == nullptr) return;
  const auto part = store.part_of.find(weights.PathOf(prefix, index));
  if (part == store.part_of.end()) return;
  part_ = part->second;
  store.parts->Acquire(context.stream(), part_);
  parts_ = store.parts;
}

WeightTurn::~WeightTurn() {
  if (parts_ == nullptr) return;
  try {
    parts_->Release(context_.stream(), part_, /*is_changed=*/false);
  } catch (const Error&) {  // of the device: shows at the next wait for it, too
  }
}

DType Weights::MainDType() const {
  std::map<DType, int64_t> elements;
  for (const std::string& name : names()) {
    const std::string full = prefix_ + name;
    const std::optional<DType> dtype = store_->ServedType(full);
    if (!dtype) continue;
    elements[*dtype] += store_->tensors.find(full)->second->ShapeOf(full).NumElements();
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
    if (!store_->ServedType(full)) continue;
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
