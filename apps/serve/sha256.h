// SHA-256 of bytes, as 32 bytes and as text.
#pragma once

#include <fmt/format.h>
#include <openssl/evp.h>

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "tamias/error.h"

namespace tamias::serve {

using Sha256Digest = std::array<uint8_t, 32>;

inline Sha256Digest Sha256(std::string_view bytes) {
  Sha256Digest digest{};
  unsigned int size = 0;
  if (EVP_Digest(bytes.data(), bytes.size(), digest.data(), &size, EVP_sha256(), nullptr) != 1) {
    throw Error(ErrorCode::kInternal, "sha256: cannot be computed");
  }
  return digest;
}

// 64 hexadecimal digits.
inline std::string Sha256Text(std::string_view bytes) {
  std::string text;
  for (const uint8_t byte : Sha256(bytes)) text += fmt::format("{:02x}", byte);
  return text;
}

}  // namespace tamias::serve
