// Fields of schedulers: see the header.
#include "models/schedulers/scheduler_fields.h"

#include <string>

#include "base/check.h"
#include "io/json.h"

namespace tamias {

void FailUnsupported(const JsonObject& json, std::string_view field, std::string_view supported) {
  Fail(ErrorCode::kUnsupported, "{}: field '{}': only {} is supported", json.source(), field,
       supported);
}

void RequireBool(const JsonObject& json, std::string_view field, bool fallback, bool supported) {
  if (json.BoolOr(field, fallback) != supported) {
    FailUnsupported(json, field, supported ? "true" : "false");
  }
}

void RequireString(const JsonObject& json, std::string_view field, std::string_view fallback,
                   std::string_view supported) {
  if (json.StringOr(field, std::string(fallback)) != supported) {
    FailUnsupported(json, field, fmt::format("\"{}\"", supported));
  }
}

void RequireAbsent(const JsonObject& json, std::string_view field) {
  if (json.Has(field)) FailUnsupported(json, field, "null");
}

}  // namespace tamias
