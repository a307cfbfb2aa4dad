// Both layouts of byte-pair vocabularies: see the header.
#include "io/byte_pair_files.h"

#include <nlohmann/json.hpp>

#include "base/check.h"
#include "io/model_file.h"
#include "tamias/files.h"

namespace tamias {
namespace {

constexpr size_t kMaxMergesBytes = size_t{64} << 20;
constexpr IntRange kIdRange = {.min = 0, .max = 1 << 30};

// "left right", split at its only blank.
std::pair<std::string, std::string> SplitMerge(std::string_view line, const std::string& source,
                                               size_t number) {
  const size_t blank = line.find(' ');
  if (blank == line.npos || line.find(' ', blank + 1) != line.npos) {
    Fail(ErrorCode::kInvalidFile, "{}: merge {}: expected two tokens with one blank between them",
         source, number);
  }
  return {std::string(line.substr(0, blank)), std::string(line.substr(blank + 1))};
}

}  // namespace

BytePairEncoder::Vocabulary ReadVocabulary(const JsonObject& object) {
  BytePairEncoder::Vocabulary vocabulary;
  for (const std::string& token : object.Keys()) {
    vocabulary[token] = static_cast<int32_t>(object.Int(token, kIdRange));
  }
  return vocabulary;
}

BytePairEncoder::Merges ReadMerges(const JsonObject& model) {
  BytePairEncoder::Merges merges;
  const auto it = model.raw().find("merges");
  if (it == model.raw().end() || !it->is_array()) model.FailField("merges", "expected an array");
  for (const nlohmann::json& merge : *it) {
    if (merge.is_string()) {
      merges.push_back(
          SplitMerge(merge.get_ref<const std::string&>(), model.source(), merges.size()));
    } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() &&
               merge[1].is_string()) {
      merges.emplace_back(merge[0].get<std::string>(), merge[1].get<std::string>());
    } else {
      model.FailField(fmt::format("merges[{}]", merges.size()), "expected two tokens");
    }
  }
  return merges;
}

BytePairEncoder::Merges ReadMergesText(const std::filesystem::path& path) {
  const std::string text = ReadFile(path, kMaxMergesBytes);
  RefuseForeignContent(path, text);
  BytePairEncoder::Merges merges;
  std::string_view rest = text;
  while (!rest.empty()) {
    const size_t end = rest.find('\n');
    std::string_view line = rest.substr(0, end);
    rest.remove_prefix(end == rest.npos ? rest.size() : end + 1);
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.starts_with("#version") || line.empty()) continue;
    merges.push_back(SplitMerge(line, path.string(), merges.size()));
  }
  return merges;
}

}  // namespace tamias
