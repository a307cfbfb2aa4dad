// Names are PREFIX LAYER SUFFIX: the prefix says the component and how the layer is written, the
// suffix which part of it the tensor is.
#include "io/lora_file.h"

#include <cmath>
#include <map>
#include <optional>

#include "base/check.h"
#include "io/float_values.h"
#include "io/json.h"
#include "io/one_line.h"

namespace tamias {
namespace {

enum class Part { kDown, kUp, kAlpha };

struct Suffix {
  std::string_view text;
  Part part;
};
constexpr Suffix kSuffixes[] = {
    {".lora_A.weight", Part::kDown},
    {".lora_B.weight", Part::kUp},
    {".lora_A.default.weight", Part::kDown},  // PEFT's name of the only adapter
    {".lora_B.default.weight", Part::kUp},
    {".lora_down.weight", Part::kDown},
    {".lora_up.weight", Part::kUp},
    {".lora.down.weight", Part::kDown},
    {".lora.up.weight", Part::kUp},
    {".lora_linear_layer.down.weight", Part::kDown},
    {".lora_linear_layer.up.weight", Part::kUp},
    {".alpha", Part::kAlpha},
};

struct Prefix {
  std::string_view text;
  std::string_view component;
  bool is_joined = false;
};
constexpr Prefix kPrefixes[] = {
    {"transformer.", "transformer"},           {"diffusion_model.", "transformer"},
    {"model.diffusion_model.", "transformer"}, {"base_model.model.", "transformer"},
    {"text_encoder.", "text_encoder"},         {"text_encoder_2.", "text_encoder_2"},
    {"lora_unet_", "transformer", true},       {"lora_transformer_", "transformer", true},
    {"lora_te_", "text_encoder", true},        {"lora_te1_", "text_encoder", true},
    {"lora_te2_", "text_encoder_2", true},
};

const Suffix* FindSuffix(std::string_view name) {
  for (const Suffix& suffix : kSuffixes) {
    if (name.ends_with(suffix.text)) return &suffix;
  }
  return nullptr;
}

// Without a prefix a layer is the transformer's.
LoraLayer LayerOf(std::string_view stem) {
  LoraLayer layer;
  Prefix found = {"", "transformer"};
  for (const Prefix& prefix : kPrefixes) {
    if (stem.starts_with(prefix.text)) found = prefix;
  }
  layer.component = found.component;
  layer.name = stem.substr(found.text.size());
  layer.is_joined = found.is_joined;
  return layer;
}

// The names of a layer's tensors; empty: not there.
struct Names {
  std::string down, up, alpha;
};

[[noreturn]] void FailTensor(const SafetensorsFile& file, std::string_view name, ErrorCode code,
                             std::string_view problem) {
  Fail(code, "{}: tensor '{}': {}", file.path().string(), OneLine(name), problem);
}

std::map<std::string, Names> NamesOfLayers(const SafetensorsFile& file) {
  std::map<std::string, Names> layers;
  for (const auto& [name, entry] : file.entries()) {
    const Suffix* suffix = FindSuffix(name);
    if (suffix == nullptr) {
      FailTensor(
          file, name, ErrorCode::kUnsupported,
          "not a part of a LoRA (lora_A and lora_B, or lora_down and lora_up, with alpha): other "
          "adapters (LoHa, LoKr, DoRA), changed biases and whole models cannot be read");
    }
    Names& names = layers[name.substr(0, name.size() - suffix->text.size())];
    std::string& part = suffix->part == Part::kDown ? names.down
                        : suffix->part == Part::kUp ? names.up
                                                    : names.alpha;
    if (!part.empty()) {
      FailTensor(file, name, ErrorCode::kInvalidFile, "the same as '" + OneLine(part) + "'");
    }
    part = name;
  }
  if (layers.empty()) Fail(ErrorCode::kInvalidFile, "{}: holds no tensors", file.path().string());
  return layers;
}

// Of a layer's tensors; all are read once, so that later products need not ask.
ConstTensorView FloatTensor(const SafetensorsFile& file, const std::string& name) {
  const SafetensorsFile::Entry& entry = file.entries().find(name)->second;
  const std::optional<DType> dtype = entry.dtype;
  if (dtype != DType::kF32 && dtype != DType::kF16 && dtype != DType::kBF16) {
    FailTensor(
        file, name, ErrorCode::kUnsupported,
        fmt::format("element type {}: expected F32, F16 or BF16", OneLine(entry.dtype_name)));
  }
  const ConstTensorView tensor = file.Get(name);
  if (HasNonFinite(tensor, 0, tensor.NumElements())) {
    FailTensor(file, name, ErrorCode::kInvalidFile, "holds a NaN or an infinity");
  }
  return tensor;
}

ConstTensorView Factor(const SafetensorsFile& file, const std::string& name,
                       const std::string& other) {
  if (name.empty()) {
    FailTensor(file, other, ErrorCode::kInvalidFile, "the other factor of the layer is missing");
  }
  const ConstTensorView tensor = FloatTensor(file, name);
  if (tensor.shape().rank() != 2 || tensor.NumElements() == 0) {
    FailTensor(file, name, ErrorCode::kUnsupported,
               fmt::format("expected a matrix, found shape {}: only linear layers can be changed",
                           tensor.shape().ToString()));
  }
  return tensor;
}

// What diffusers writes beside the tensors of newer files: settings as "COMPONENT.KEY".
class AdapterMetadata {
 public:
  explicit AdapterMetadata(const SafetensorsFile& file) {
    const auto found = file.metadata().find("lora_adapter_metadata");
    if (found == file.metadata().end()) return;
    json_ = JsonObject::Parse(found->second,
                              file.path().string() + ": metadata 'lora_adapter_metadata'");
  }

  // What B A is multiplied with; nothing where the file does not say.
  std::optional<double> ScaleOf(const LoraLayer& layer, int64_t rank) const {
    const std::string prefix = layer.component + ".";
    if (!json_ || !json_->Has(prefix + "lora_alpha")) return std::nullopt;
    constexpr FloatRange kAny;
    double alpha = json_->Float(prefix + "lora_alpha", kAny);
    if (json_->Has(prefix + "alpha_pattern")) {
      const JsonObject pattern = json_->Object(prefix + "alpha_pattern");
      for (const std::string& key : pattern.Keys()) {
        const bool fits = layer.name == key || layer.name.ends_with("." + key);
        if (fits) alpha = pattern.Float(key, kAny);
      }
    }
    const auto r = static_cast<double>(rank);
    return alpha / (json_->BoolOr(prefix + "use_rslora", false) ? std::sqrt(r) : r);
  }

 private:
  std::optional<JsonObject> json_;
};

double Alpha(const SafetensorsFile& file, const std::string& name) {
  const ConstTensorView tensor = FloatTensor(file, name);
  if (tensor.NumElements() != 1) {
    FailTensor(file, name, ErrorCode::kInvalidFile,
               "expected one number, found shape " + tensor.shape().ToString());
  }
  return static_cast<double>(ElementOf(tensor, 0));
}

}  // namespace

LoraFile::LoraFile(const std::filesystem::path& path) : file_(path) {
  const AdapterMetadata metadata(file_);
  for (const auto& [stem, names] : NamesOfLayers(file_)) {
    if (names.down.empty() && names.up.empty()) {
      FailTensor(file_, names.alpha, ErrorCode::kInvalidFile, "the layer has no factors");
    }
    LoraLayer layer = LayerOf(stem);
    layer.down = Factor(file_, names.down, names.up);
    layer.up = Factor(file_, names.up, names.down);
    layer.up_name = names.up;
    const int64_t rank = layer.down.dim(0);
    if (layer.up.dim(1) != rank) {
      FailTensor(file_, names.up, ErrorCode::kInvalidFile,
                 fmt::format("expected rank {} as of '{}', found shape {}", rank,
                             OneLine(names.down), layer.up.shape().ToString()));
    }
    if (const auto scale = metadata.ScaleOf(layer, rank)) {
      layer.scale = *scale;
    } else if (!names.alpha.empty()) {
      layer.scale = Alpha(file_, names.alpha) / static_cast<double>(rank);
    }
    layers_.push_back(std::move(layer));
  }
}

}  // namespace tamias
