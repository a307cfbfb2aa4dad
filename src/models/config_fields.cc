// Common checks of configurations: see the header.
#include "models/config_fields.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>

#include "base/check.h"
#include "io/one_line.h"

namespace tamias {
namespace {

bool IsNull(const JsonObject& json, std::string_view field) {
  const auto it = json.raw().find(field);
  return it != json.raw().end() && it->is_null();
}

// "model_type" where it is a string, else empty.
std::string ModelType(const nlohmann::json& object) {
  const auto it = object.find("model_type");
  return it != object.end() && it->is_string() ? it->get<std::string>() : "";
}

}  // namespace

void RequireName(const JsonObject& json, std::string_view field, std::string_view served) {
  const bool is_null = IsNull(json, field);
  const std::string found = is_null ? "null" : json.StringOr(field, std::string(served));
  if (!is_null && found == served) return;
  const std::string quoted = is_null ? "null" : fmt::format("\"{}\"", OneLine(found));
  Fail(ErrorCode::kUnsupported, "{}: field '{}': only \"{}\" is supported, found {}", json.source(),
       field, served, quoted);
}

void RefuseNull(const JsonObject& json, std::initializer_list<std::string_view> fields) {
  for (const std::string_view field : fields) {
    if (IsNull(json, field)) json.FailField(field, "expected a value, found null");
  }
}

void RefuseMoreLayers(const Weights& weights, std::string_view prefix, int64_t count,
                      std::string_view field) {
  if (weights.Sub(prefix, count).names().empty()) return;
  Fail(ErrorCode::kInvalidFile,
       "{}: tensor '{}...': there are more layers than the {} of config.json's field '{}': one of "
       "the two is of another model",
       weights.folder().string(), weights.PathOf(prefix, count), count, field);
}

JsonObject EncoderConfig(const JsonObject& file, std::string_view base_key,
                         std::initializer_list<std::string_view> model_types) {
  const JsonObject outer = !base_key.empty() && file.Has(base_key) ? file.Object(base_key) : file;
  const auto is_served = [&](const nlohmann::json& object) {
    return std::ranges::find(model_types, ModelType(object)) != model_types.end();
  };
  if (ModelType(outer.raw()).empty() || is_served(outer.raw())) return outer;
  for (const std::string& key : outer.Keys()) {
    const nlohmann::json& value = outer.raw().at(key);
    if (value.is_object() && is_served(value)) return outer.Object(key);
  }
  return outer;
}

}  // namespace tamias
