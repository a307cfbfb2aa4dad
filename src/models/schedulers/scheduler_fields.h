// Fields of scheduler_config.json with one served value each: any other is refused by name.
#pragma once

#include <string_view>

namespace tamias {

class JsonObject;

// Each throws kUnsupported, "path: field 'x': only SUPPORTED is supported", unless the field has
// this value; an absent field has diffusers' default, `fallback`.
void RequireBool(const JsonObject& json, std::string_view field, bool fallback, bool supported);
void RequireString(const JsonObject& json, std::string_view field, std::string_view fallback,
                   std::string_view supported);
void RequireAbsent(const JsonObject& json, std::string_view field);

// The end of all of these: what is served, and why, after "only".
[[noreturn]] void FailUnsupported(const JsonObject& json, std::string_view field,
                                  std::string_view supported);

}  // namespace tamias
