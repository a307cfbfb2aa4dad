// Bytes as base64 text (RFC 4648) and back, for pictures within JSON.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace tamias::serve {

std::string Base64(std::string_view bytes);

// Nothing for what is not base64 with its padding.
std::optional<std::string> FromBase64(std::string_view text);

}  // namespace tamias::serve
