// Names are PREFIX LAYER SUFFIX: the prefix says the component and how the layer is written, the
// suffix which part of it the tensor is.
#include "io/lora_file.h"

#include <cmath>
#include <map>
#include <optional>

#include "base/check.h"
#include "io/float_values.h"
#include "io/json.h"
#include "io/model_file.h"
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
    {".lora_A.default.weight", Part::kDown},  // in the state of a whole PEFT model
    {".lora_B.default.weight", Part::kUp},
    {".lora_down.weight", Part::kDown},
    {".lora_up.weight", Part::kUp},
    {".lora.down.weight", Part::kDown},
    {".lora.up.weight", Part::kUp},
    {".lora_linear_layer.down.weight", Part::kDown},
    {".lora_linear_layer.up.weight", Part::kUp},
    {".alpha", Part::kAlpha},
};

// What PEFT itself writes; alpha is then in a file beside it.
constexpr std::string_view kPeftPrefix = "base_model.model.";
constexpr const char* kPeftConfig = "adapter_config.json";

struct Prefix {
  std::string_view text;
  std::string_view component;
  bool is_joined = false;
};
constexpr Prefix kPrefixes[] = {
    {"transformer.", "transformer"},
    {"diffusion_model.", "transformer"},
    {"model.diffusion_model.", "transformer"},
    {"pipe.dit.", "transformer"},
    {kPeftPrefix, "transformer"},
    {"text_encoder.", "text_encoder"},
    {"text_encoder_2.", "text_encoder_2"},
    {"text_encoders.clip_l.transformer.", "text_encoder"},
    {"text_encoders.t5xxl.transformer.", "text_encoder_2"},
    {"lora_unet_", "transformer", true},
    {"lora_unet__", "transformer", true},
    {"lora_transformer_", "transformer", true},
    {"lora_te_", "text_encoder", true},
    {"lora_te1_", "text_encoder", true},
    {"lora_te2_", "text_encoder_2", true},
    {"lora_te3_", "text_encoder_2", true},  // kohya's number of T5
};

const Suffix* FindSuffix(std::string_view name) {
  for (const Suffix& suffix : kSuffixes) {
    if (name.ends_with(suffix.text)) return &suffix;
  }
  return nullptr;
}

// The longest prefix counts; without one a layer is the transformer's.
LoraLayer LayerOf(std::string_view stem) {
  LoraLayer layer;
  Prefix found = {"", "transformer"};
  for (const Prefix& prefix : kPrefixes) {
    if (stem.starts_with(prefix.text) && prefix.text.size() > found.text.size()) found = prefix;
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

// What PEFT's configuration says, here or in diffusers' metadata: "lora_alpha", "alpha_pattern" and
// "use_rslora", each behind the prefix.
struct AdapterConfig {
  JsonObject json;
  std::string prefix;

  // What B A is multiplied with; nothing where it does not say. Source: PEFT's LoraLayer, which
  // takes keys of the pattern for regular expressions; here they are names or ends of names.
  std::optional<double> ScaleOf(const LoraLayer& layer) const {
    if (!json.Has(prefix + "lora_alpha")) return std::nullopt;
    const auto rank = static_cast<double>(layer.down.dim(0));
    const double divisor = json.BoolOr(prefix + "use_rslora", false) ? std::sqrt(rank) : rank;
    return Alpha(layer) / divisor;
  }

 private:
  double Alpha(const LoraLayer& layer) const {
    const std::string field = prefix + "alpha_pattern";
    std::optional<double> found;
    if (json.Has(field)) {
      const JsonObject pattern = json.Object(field);
      for (const std::string& key : pattern.Keys()) {
        if (key.find_first_of("\\*+?|^$()[]{}") != key.npos) {
          pattern.FailField(key, "expected a layer's name: regular expressions are not read");
        }
        if (layer.name != key && !layer.name.ends_with("." + key)) continue;
        const double alpha = pattern.Float(key);
        if (found && *found != alpha) {
          pattern.FailField(key, "another alpha than other keys give to " + OneLine(layer.name));
        }
        found = alpha;
      }
    }
    return found ? *found : json.Float(prefix + "lora_alpha");
  }
};

// What diffusers writes beside the tensors of newer files: settings as "COMPONENT.KEY".
std::optional<JsonObject> ReadMetadata(const SafetensorsFile& file) {
  const auto found = file.metadata().find("lora_adapter_metadata");
  if (found == file.metadata().end()) return std::nullopt;
  return JsonObject::Parse(found->second,
                           file.path().string() + ": metadata 'lora_adapter_metadata'");
}

double ReadAlpha(const SafetensorsFile& file, const std::string& name) {
  const SafetensorsFile::Entry& entry = file.entries().find(name)->second;
  if (entry.dtype == DType::kI64) {
    const ConstTensorView tensor = file.Get(name);
    if (tensor.NumElements() == 1) return static_cast<double>(*tensor.data<int64_t>());
  }
  const ConstTensorView tensor = FloatTensor(file, name);
  if (tensor.NumElements() != 1) {
    FailTensor(file, name, ErrorCode::kInvalidFile,
               "expected one number, found shape " + tensor.shape().ToString());
  }
  return static_cast<double>(ElementOf(tensor, 0));
}

// Of layers without an alpha, whose names PEFT wrote.
AdapterConfig PeftConfigBeside(const SafetensorsFile& file, const std::string& name) {
  const std::filesystem::path path = file.path().parent_path() / kPeftConfig;
  if (!HasEntry(path)) {
    FailTensor(file, name, ErrorCode::kNotFound,
               fmt::format("PEFT keeps alpha in {}, which is not beside the file", kPeftConfig));
  }
  return {JsonObject::Load(path), ""};
}

}  // namespace

LoraFile::LoraFile(const std::filesystem::path& path) : file_(path) {
  const std::optional<JsonObject> metadata = ReadMetadata(file_);
  std::optional<AdapterConfig> peft;
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
    std::optional<double> scale;
    if (metadata) scale = AdapterConfig{*metadata, layer.component + "."}.ScaleOf(layer);
    if (!names.alpha.empty()) {
      const double of_tensor = ReadAlpha(file_, names.alpha) / static_cast<double>(rank);
      if (scale && *scale != of_tensor) {
        FailTensor(file_, names.alpha, ErrorCode::kInvalidFile,
                   "another alpha than in the metadata 'lora_adapter_metadata'");
      }
      scale = of_tensor;
    }
    if (!scale && stem.starts_with(kPeftPrefix)) {
      if (!peft) peft = PeftConfigBeside(file_, names.up);
      scale = peft->ScaleOf(layer);
    }
    layer.scale = scale.value_or(1);
    layers_.push_back(std::move(layer));
  }
  file_.GiveBack();
}

void LoraFile::FailLayer(const LoraLayer& layer, std::string_view problem) const {
  FailTensor(file_, layer.up_name, ErrorCode::kInvalidFile, problem);
}

}  // namespace tamias
