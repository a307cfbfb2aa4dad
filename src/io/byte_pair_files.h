// The vocabulary and the merges of byte-pair encoding in their files: the "model" of
// tokenizer.json, or vocab.json and merges.txt.
#pragma once

#include <filesystem>

#include "io/byte_pair_encoding.h"
#include "io/json.h"

namespace tamias {

// {"token": id, ...}: an object "vocab", or all of vocab.json. Throws kInvalidFile.
BytePairEncoder::Vocabulary ReadVocabulary(const JsonObject& object);

// The field "merges": "left right" or ["left", "right"], in the order of their ranks.
// Throws kInvalidFile.
BytePairEncoder::Merges ReadMerges(const JsonObject& model);

// Lines "left right" of merges.txt after the "#version" line. Throws kNotFound or kInvalidFile.
BytePairEncoder::Merges ReadMergesText(const std::filesystem::path& path);

}  // namespace tamias
