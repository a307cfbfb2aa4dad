// What the configurations of all models have in common: fields that choose among variants of which
// Tamias has one, numbers of layers, and configurations within those of larger models.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string_view>

#include "io/json.h"
#include "tamias/weights.h"

namespace tamias {

// Throws kUnsupported "path: field 'x': expected a, found b" unless a field is absent or names the
// variant that Tamias has. Null is not absent: for diffusers it chooses, too ("no norm").
void RequireName(const JsonObject& json, std::string_view field, std::string_view served);

// Throws kInvalidFile for a field that is there but null, where null is not the default: Python
// would go on with None, and the file means something else than its absence.
void RefuseNull(const JsonObject& json, std::initializer_list<std::string_view> fields);

// Throws kInvalidFile when there are weights of a layer "prefix.count": with fewer layers than were
// trained a model would run and make noise. `field` of config.json gives the count.
void RefuseMoreLayers(const Weights& weights, std::string_view prefix, int64_t count,
                      std::string_view field);

// The part of a text or vision encoder's config.json that describes the encoder, found as
// transformers finds it: the object `base_key` where there is one (a whole CLIPModel has
// "text_config"), and where "model_type" is none of `model_types`, an object within whose is.
JsonObject EncoderConfig(const JsonObject& file, std::string_view base_key,
                         std::initializer_list<std::string_view> model_types);

}  // namespace tamias
