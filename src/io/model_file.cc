// Recognises what lies in the place of a model file: see the header.
#include "io/model_file.h"

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <iterator>

#include "base/check.h"
#include "io/one_line.h"
#include "io/system_error.h"

namespace tamias {
namespace {

using namespace std::string_view_literals;

constexpr std::string_view kPickleAdvice =
    "a PyTorch checkpoint (pickle), which is not read: save the model as safetensors";

struct Signature {
  std::string_view bytes;
  std::string_view description;
};
constexpr Signature kSignatures[] = {
    {"\x1F\x8B"sv, "gzip data: unpack it"},
    {"PK\x03\x04"sv, "a zip archive: unpack it"},
    {"GGUF"sv, "a GGUF file, whose quantised weights are not read"},
    {"BZh"sv, "bzip2 data: unpack it"},
    {"\xFD"
     "7zXZ"sv,
     "xz data: unpack it"},
    {"\x28\xB5\x2F\xFD"sv, "zstd data: unpack it"},
    {"7z\xBC\xAF"sv, "a 7z archive: unpack it"},
    {"\x89HDF"sv, "an HDF5 file, which is not read"},
    {"\x89PNG"sv, "a PNG picture"},
    {"\xFF\xD8\xFF"sv, "a JPEG picture"},
};

bool BeginsWithIgnoringCase(std::string_view text, std::string_view lower_case) {
  return text.size() >= lower_case.size() &&
         std::ranges::equal(text.substr(0, lower_case.size()), lower_case, [](char a, char b) {
           return std::tolower(static_cast<unsigned char>(a)) == b;
         });
}

std::string_view SkipBlanks(std::string_view text) {
  if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
  const size_t begin = text.find_first_not_of(" \t\r\n");
  return begin == text.npos ? std::string_view() : text.substr(begin);
}

// Protocols 2 to 5 of Python's pickle: a mark of the protocol, then an opcode of which none is 0.
bool IsPickle(std::string_view bytes) {
  return bytes.size() > 2 && bytes[0] == '\x80' && bytes[1] >= 2 && bytes[1] <= 5 && bytes[2] != 0;
}

}  // namespace

std::string DescribeForeignContent(std::string_view beginning) {
  constexpr size_t kEnough = 512;
  beginning = beginning.substr(0, kEnough);
  if (beginning.starts_with("version https://git-lfs") ||
      beginning.starts_with("version http://git-media")) {
    return "a Git LFS pointer: the file itself was not downloaded (`git lfs pull` fetches it)";
  }
  const std::string_view text = SkipBlanks(beginning);
  for (const std::string_view tag : {"<!doctype html", "<html", "<head", "<body"}) {
    if (BeginsWithIgnoringCase(text, tag)) {
      return "an HTML page: the download gave an error or a login page, not the file";
    }
  }
  if (BeginsWithIgnoringCase(text, "<?xml")) {
    return "an XML document: the download gave an error, not the file";
  }
  // torch.save writes a zip archive whose first member is NAME/data.pkl.
  if (beginning.starts_with("PK\x03\x04") && beginning.find("data.pkl") != beginning.npos) {
    return std::string(kPickleAdvice);
  }
  if (IsPickle(beginning)) return std::string(kPickleAdvice);
  const auto* signature = std::ranges::find_if(
      kSignatures, [&](const Signature& known) { return beginning.starts_with(known.bytes); });
  return signature == std::end(kSignatures) ? "" : std::string(signature->description);
}

void RefuseForeignContent(const std::filesystem::path& path, std::string_view beginning) {
  const std::string description = DescribeForeignContent(beginning);
  if (!description.empty()) {
    Fail(ErrorCode::kInvalidFile, "{}: this is {}", path.string(), description);
  }
}

bool HasEntry(const std::filesystem::path& path) {
  std::error_code error;
  const auto status = std::filesystem::symlink_status(path, error);
  if (status.type() == std::filesystem::file_type::none) {
    FailSystem(path, "open", error.value(), /*reading=*/true);
  }
  return status.type() != std::filesystem::file_type::not_found;
}

void RequireFolder(const std::filesystem::path& path) {
  if (!HasEntry(path)) Fail(ErrorCode::kNotFound, "{}: no such folder", path.string());
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  if (status.type() == std::filesystem::file_type::directory) return;
  if (!std::filesystem::exists(status)) {
    FailSystem(path, "open", error ? error.value() : ENOENT, /*reading=*/true);
  }
  Fail(ErrorCode::kNotFound, "{}: expected a folder, found a file", path.string());
}

}  // namespace tamias
