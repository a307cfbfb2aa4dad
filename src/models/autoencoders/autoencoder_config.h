// What the autoencoders' configurations have in common.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "io/json.h"

namespace tamias {

constexpr int64_t kMostAutoencoderChannels = 1 << 16;

// Throws kUnsupported unless `found` is the value that Tamias has.
void RequireValue(const JsonObject& json, std::string_view field, std::string_view found,
                  std::string_view expected);

// Throws kInvalidFile unless an array has the expected number of elements.
void CheckCount(const JsonObject& json, std::string_view field, size_t found, size_t expected);

// "block_out_channels": 1 to 8 levels, each a multiple of `groups`.
std::vector<int64_t> BlockOutChannels(const JsonObject& json, const std::vector<int64_t>& fallback,
                                      int64_t groups);

}  // namespace tamias
