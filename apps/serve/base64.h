// Bytes as base64 text (RFC 4648), for pictures within JSON; back: tamias/base64.h.
#pragma once

#include <string>
#include <string_view>

namespace tamias::serve {

std::string Base64(std::string_view bytes);

}  // namespace tamias::serve
