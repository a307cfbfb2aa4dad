// Checks of the autoencoders' configurations: see the header.
#include "models/autoencoders/autoencoder_config.h"

#include "base/check.h"

namespace tamias {

void RequireValue(const JsonObject& json, std::string_view field, std::string_view found,
                  std::string_view expected) {
  if (found != expected) {
    Fail(ErrorCode::kUnsupported, "{}: field '{}': expected {}, found {}", json.source(), field,
         expected, found);
  }
}

void CheckCount(const JsonObject& json, std::string_view field, size_t found, size_t expected) {
  if (found == expected) return;
  json.FailField(field, fmt::format("expected {} values, found {}", expected, found));
}

std::vector<int64_t> BlockOutChannels(const JsonObject& json, const std::vector<int64_t>& fallback,
                                      int64_t groups) {
  constexpr size_t kMostLevels = 8;
  std::vector<int64_t> channels =
      json.IntArrayOr("block_out_channels", fallback, {1, kMostAutoencoderChannels});
  if (channels.empty() || channels.size() > kMostLevels) {
    json.FailField("block_out_channels",
                   fmt::format("expected 1 to {} levels, found {}", kMostLevels, channels.size()));
  }
  for (const int64_t count : channels) {
    if (count % groups != 0) {
      json.FailField(
          "block_out_channels",
          fmt::format("expected multiples of norm_num_groups ({}), found {}", groups, count));
    }
  }
  return channels;
}

}  // namespace tamias
