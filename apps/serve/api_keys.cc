// SHA-256 of each key; every comparison runs over all digests, whichever fits.
#include "api_keys.h"

#include <fmt/format.h>
#include <openssl/crypto.h>

#include <algorithm>

#include "sha256.h"
#include "tamias/error.h"
#include "tamias/files.h"

namespace tamias::serve {
namespace {

constexpr size_t kMaxFileBytes = size_t{1} << 20;
constexpr size_t kMinKeyLength = 16;

std::string_view Trimmed(std::string_view line) {
  constexpr std::string_view kBlanks = " \t\r";
  const size_t begin = line.find_first_not_of(kBlanks);
  if (begin == std::string_view::npos) return {};
  return line.substr(begin, line.find_last_not_of(kBlanks) - begin + 1);
}

bool IsVisibleAscii(char c) { return '!' <= c && c <= '~'; }

}  // namespace

ApiKeys::ApiKeys(const std::filesystem::path& file) {
  const std::string text = ReadFile(file, kMaxFileBytes);
  size_t number = 0;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const std::string_view key = Trimmed(std::string_view(text).substr(begin, end - begin));
    begin = end + 1;
    ++number;
    if (key.empty() || key.front() == '#') continue;
    if (key.size() < kMinKeyLength) {
      throw Error(ErrorCode::kInvalidFile,
                  fmt::format("{}:{}: expected a key of at least {} characters, found {}",
                              file.string(), number, kMinKeyLength, key.size()));
    }
    if (!std::ranges::all_of(key, IsVisibleAscii)) {
      throw Error(ErrorCode::kInvalidFile,
                  fmt::format("{}:{}: expected a key of visible ASCII characters, as a request's "
                              "header carries it, found others",
                              file.string(), number));
    }
    digests_.push_back(Sha256(key));
  }
  if (digests_.empty()) {
    throw Error(ErrorCode::kInvalidFile,
                fmt::format("{}: expected keys, one a line, found none", file.string()));
  }
}

std::optional<std::string> ApiKeys::OwnerOf(std::string_view key) const {
  if (digests_.empty()) return "";
  const Sha256Digest given = Sha256(key);
  bool is_known = false;
  for (const Sha256Digest& digest : digests_) {
    is_known |= CRYPTO_memcmp(given.data(), digest.data(), digest.size()) == 0;
  }
  if (!is_known) return std::nullopt;
  std::string owner;
  for (size_t i = 0; i < 8; ++i) owner += fmt::format("{:02x}", given[i]);
  return owner;
}

}  // namespace tamias::serve
