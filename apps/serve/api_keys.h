// The keys that may use the server, one a line in a file. Only their digests are kept, and a given
// key is compared with all of them in constant time.
#pragma once

#include <cstddef>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "sha256.h"

namespace tamias::serve {

class ApiKeys {
 public:
  // No keys: everyone is the owner "".
  ApiKeys() = default;
  // Blank lines and lines that begin with # are left out. Throws kNotFound, kIo, and kInvalidFile
  // for a file without keys or with one shorter than 16 characters or of others than visible ASCII.
  explicit ApiKeys(const std::filesystem::path& file);

  bool empty() const { return digests_.empty(); }
  size_t size() const { return digests_.size(); }
  // Whose request it is: a name made of the key's digest. Nothing for a key that is not known.
  std::optional<std::string> OwnerOf(std::string_view key) const;

 private:
  std::vector<Sha256Digest> digests_;
};

}  // namespace tamias::serve
