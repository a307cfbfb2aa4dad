// JSON configuration files with typed, range-checked access. Every error is one line,
// "path: field 'a.b': expected integer in [0, 1000], found "x"".
// Limits: 64 MiB of text, 64 levels of nesting, no duplicate keys, valid UTF-8. Numbers that are
// not finite (NaN, Infinity, -Infinity) are refused by who reads their field, not before.
#pragma once

#include <cstdint>
#include <filesystem>
#include <limits>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "io/range.h"

namespace tamias {

// A view of one JSON object; copies are cheap and keep the document alive.
class JsonObject {
 public:
  // Throws kNotFound, kIo, or kInvalidFile when the file is not one JSON object.
  static JsonObject Load(const std::filesystem::path& path);
  // `source` stands for the path in messages.
  static JsonObject Parse(std::string_view text, std::string source);

  // A key whose value is null counts as absent, here and in the ...Or functions.
  bool Has(std::string_view key) const;
  std::vector<std::string> Keys() const;

  // Each throws kInvalidFile when the field is missing, of another type or out of range.
  int64_t Int(std::string_view key, IntRange range = {}) const;
  double Float(std::string_view key, FloatRange range = {}) const;  // integers are accepted
  bool Bool(std::string_view key) const;
  std::string String(std::string_view key) const;
  std::vector<int64_t> IntArray(std::string_view key, IntRange range = {}) const;
  std::vector<double> FloatArray(std::string_view key, FloatRange range = {}) const;
  std::vector<bool> BoolArray(std::string_view key) const;
  std::vector<std::string> StringArray(std::string_view key) const;
  JsonObject Object(std::string_view key) const;
  std::vector<JsonObject> ObjectArray(std::string_view key) const;

  // The same with a value for an absent field; a present one is checked all the same.
  int64_t IntOr(std::string_view key, int64_t fallback, IntRange range = {}) const;
  double FloatOr(std::string_view key, double fallback, FloatRange range = {}) const;
  bool BoolOr(std::string_view key, bool fallback) const;
  std::string StringOr(std::string_view key, std::string fallback) const;
  std::vector<int64_t> IntArrayOr(std::string_view key, std::vector<int64_t> fallback,
                                  IntRange range = {}) const;
  std::vector<std::string> StringArrayOr(std::string_view key,
                                         std::vector<std::string> fallback) const;

  // Throws kInvalidFile: "path: field 'key': problem".
  [[noreturn]] void FailField(std::string_view key, std::string_view problem) const;

  const std::string& source() const;  // the path
  const nlohmann::json& raw() const { return *node_; }

 private:
  struct Document;
  JsonObject(std::shared_ptr<const Document> document, const nlohmann::json* node, std::string path)
      : document_(std::move(document)), node_(node), path_(std::move(path)) {}
  const nlohmann::json& Field(std::string_view key) const;
  std::string PathOf(std::string_view key) const;

  std::shared_ptr<const Document> document_;
  const nlohmann::json* node_;
  std::string path_;  // of this object within the document, "" at the top
};

}  // namespace tamias
