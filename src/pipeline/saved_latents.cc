// Reading takes nothing on trust: the size of the tensor is checked before anything is allocated,
// its text is data of strangers.
#include "pipeline/saved_latents.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/check.h"
#include "base/machine.h"
#include "io/one_line.h"
#include "io/safetensors.h"

namespace tamias {
namespace {

constexpr char kTensor[] = "latents";
// More than any model's; below it sizes of latents do not overflow.
constexpr int64_t kMaxDim = int64_t{1} << 20;

// What messages call the latents.
std::string NameOf(const SavedLatents& saved) {
  return saved.path.empty() ? "latents" : saved.path.string();
}

template <typename T>
std::optional<T> NumberOf(const SavedLatents& saved, const char* key) {
  const auto item = saved.text.find(key);
  if (item == saved.text.end()) return {};
  const std::string& text = item->second;
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) {
    Fail(ErrorCode::kInvalidFile, "{}: metadata '{}': expected a number, found '{}'", NameOf(saved),
         key, OneLine(text));
  }
  return value;
}

template <typename T>
void Widen(const T* from, std::vector<float>& to) {
  std::transform(from, from + to.size(), to.begin(), [](T value) {
    if constexpr (std::is_same_v<T, float>) {
      return value;
    } else {
      return ToFloat(value);
    }
  });
}

// One of the latents of a file, view [tokens, channels].
Latents ToLatents(ConstTensorView view) {
  Latents latents{view.dim(0), view.dim(1), {}};
  latents.values.resize(static_cast<size_t>(view.NumElements()));
  if (view.dtype() == DType::kF32) {
    Widen(view.host_data<float>(), latents.values);
  } else if (view.dtype() == DType::kF16) {
    Widen(view.host_data<Float16>(), latents.values);
  } else {
    Widen(view.host_data<BFloat16>(), latents.values);
  }
  return latents;
}

std::string TensorName(const SafetensorsFile& file) {
  if (file.Has(kTensor)) return kTensor;
  if (file.entries().size() == 1) return file.entries().begin()->first;
  Fail(ErrorCode::kInvalidFile, "{}: expected the tensor '{}' or a single one, found {} others",
       file.path().string(), kTensor, file.entries().size());
}

ConstTensorView LatentsTensor(const SafetensorsFile& file) {
  const std::string name = TensorName(file);
  const ConstTensorView view = file.Get(name);
  const auto fail = [&](ErrorCode code, const std::string& problem) {
    Fail(code, "{}: tensor '{}': {}", file.path().string(), OneLine(name), problem);
  };
  const DType dtype = view.dtype();
  if (dtype != DType::kF32 && dtype != DType::kF16 && dtype != DType::kBF16) {
    fail(ErrorCode::kUnsupported,
         fmt::format("expected F32, F16 or BF16, found {}", file.entries().at(name).dtype_name));
  }
  const auto dims = view.shape().dims();
  const auto is_possible = [](int64_t dim) { return dim >= 1 && dim <= kMaxDim; };
  if (view.rank() != 3 || !std::ranges::all_of(dims, is_possible)) {
    fail(ErrorCode::kInvalidFile,
         fmt::format("expected packed latents [images, tokens, channels], found [{}]",
                     fmt::join(dims, ", ")));
  }
  const size_t bytes = sizeof(float) * static_cast<size_t>(view.NumElements());
  const std::vector<MemoryLimit> limits = MemoryLimits();
  if (const MemoryLimit* limit =
          FindExceeded(limits, {.resident_bytes = bytes, .new_bytes = bytes})) {
    fail(ErrorCode::kOutOfMemory, fmt::format("{} are more than {} of {}", BytesText(bytes),
                                              limit->name, BytesText(limit->bytes)));
  }
  return view;
}

}  // namespace

void WriteLatents(const std::filesystem::path& path, const std::vector<Latents>& latents,
                  const std::map<std::string, std::string>& text) {
  if (latents.empty()) Fail(ErrorCode::kInvalidArgument, "{}: no latents to write", path.string());
  const int64_t count = latents.front().tokens * latents.front().channels;
  Tensor all(
      {static_cast<int64_t>(latents.size()), latents.front().tokens, latents.front().channels},
      DType::kF32);
  float* next = all.host_data<float>();
  for (const Latents& one : latents) {
    if (static_cast<int64_t>(one.values.size()) != count) {
      Fail(ErrorCode::kInvalidArgument, "{}: the latents differ in size", path.string());
    }
    next = std::copy(one.values.begin(), one.values.end(), next);
  }
  const NamedTensor tensor{kTensor, all.view()};
  WriteSafetensors(path, {&tensor, 1}, text);
}

SavedLatents ReadLatents(const std::filesystem::path& path) {
  const SafetensorsFile file(path);
  const ConstTensorView view = LatentsTensor(file);
  SavedLatents saved;
  saved.path = path;
  saved.text.insert(file.metadata().begin(), file.metadata().end());
  for (int64_t i = 0; i < view.dim(0); ++i) saved.latents.push_back(ToLatents(view.Select(0, i)));
  return saved;
}

GenerateOptions WithSavedSize(const SavedLatents& saved, const GenerateOptions& options,
                              const ModelInfo& info) {
  const auto family = saved.text.find("family");
  if (family != saved.text.end() && family->second != info.family) {
    Fail(ErrorCode::kInvalidFile, "{}: latents of a {}, but the model is a {}", NameOf(saved),
         OneLine(family->second), info.family);
  }
  GenerateOptions complete = options;
  const auto fill = [&](std::optional<int>& option, const char* key) {
    if (!option) option = NumberOf<int>(saved, key);
    if (!option) {
      Fail(ErrorCode::kInvalidArgument, "{}: {} does not say it and must be given", key,
           NameOf(saved));
    }
  };
  fill(complete.width, "width");
  fill(complete.height, "height");
  if (info.makes_videos) {
    fill(complete.num_frames, "num_frames");
    if (!complete.fps) complete.fps = NumberOf<double>(saved, "fps");
  }
  return complete;
}

void CheckSavedLatents(const SavedLatents& saved, const LatentShape& shape,
                       const std::string& size_text) {
  if (saved.latents.empty()) Fail(ErrorCode::kInvalidFile, "{}: no latents", NameOf(saved));
  for (const Latents& latents : saved.latents) {
    if (latents.tokens != shape.tokens() || latents.channels != shape.token_channels()) {
      Fail(ErrorCode::kInvalidFile,
           "{}: found latents of [{}, {}] (tokens, channels); {} with this model have [{}, {}]",
           NameOf(saved), latents.tokens, latents.channels, size_text, shape.tokens(),
           shape.token_channels());
    }
    if (static_cast<int64_t>(latents.values.size()) != shape.size()) {
      Fail(ErrorCode::kInvalidFile, "{}: expected {} numbers, found {}", NameOf(saved),
           shape.size(), latents.values.size());
    }
    if (!std::ranges::all_of(latents.values, [](float x) { return std::isfinite(x); })) {
      Fail(ErrorCode::kInvalidFile, "{}: the latents are infinite or not a number in places",
           NameOf(saved));
    }
  }
}

std::map<std::string, std::string> SavedPngText(const SavedLatents& saved, int image) {
  std::map<std::string, std::string> text = {{"Software", "Tamias " + Version()}};
  const auto item = saved.text.find("tamias");
  if (item == saved.text.end()) return text;
  auto settings = nlohmann::ordered_json::parse(item->second, nullptr, /*allow_exceptions=*/false);
  if (!settings.is_object()) return text;
  const auto first = settings.find("image");
  const bool has_first = first != settings.end() && first->is_number_unsigned();
  settings["image"] = (has_first ? first->get<uint64_t>() : 0) + static_cast<uint64_t>(image);
  const auto add = [&](const char* keyword, std::string value) {
    if (value.find('\0') == std::string::npos) text[keyword] = std::move(value);
  };
  const auto prompt = settings.find("prompt");
  if (prompt != settings.end() && prompt->is_string()) {
    add("Description", prompt->get<std::string>());
  }
  add("tamias", settings.dump());
  return text;
}

}  // namespace tamias
