// As OpenSSL writes it.
#include "base64.h"

#include <openssl/evp.h>

namespace tamias::serve {

std::string Base64(std::string_view bytes) {
  // EVP_EncodeBlock takes an int and ends the text with NUL.
  constexpr size_t kBlock = size_t{3} << 20;
  std::string text;
  text.reserve((bytes.size() + 2) / 3 * 4);
  std::string block;
  for (size_t i = 0; i < bytes.size(); i += kBlock) {
    const std::string_view part = bytes.substr(i, kBlock);
    block.resize((part.size() + 2) / 3 * 4 + 1);
    const int size = EVP_EncodeBlock(reinterpret_cast<unsigned char*>(block.data()),
                                     reinterpret_cast<const unsigned char*>(part.data()),
                                     static_cast<int>(part.size()));
    text.append(block, 0, static_cast<size_t>(size));
  }
  return text;
}

}  // namespace tamias::serve
