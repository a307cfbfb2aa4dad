// Base64 (RFC 4648, section 4), as binary data stand in JSON.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace tamias {

// Empty when the text is not base64 with its padding.
std::optional<std::string> DecodeBase64(std::string_view text);

}  // namespace tamias
