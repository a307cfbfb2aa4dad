// YAML files with line numbers: errors read "path:12: key 'attn.top_keys': problem".
// Limits: 1 MiB of text, 32 levels of nesting, no anchors or aliases, no duplicate keys.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "io/range.h"

namespace tamias {

// A view of one node of a YAML document; copies are cheap and keep the document alive.
class YamlNode {
 public:
  // An empty file is an empty map. Throws kNotFound, kIo, or kInvalidFile for text that is not
  // YAML.
  static YamlNode Load(const std::filesystem::path& path);
  // `source` stands for the path in messages.
  static YamlNode Parse(std::string_view text, std::string source);

  bool IsMap() const;
  bool IsList() const;
  bool IsSet() const;  // !!set {1, 2}, or a map whose values are all null
  bool IsScalar() const;
  bool IsNull() const;
  int line() const;                // counted from 1
  const std::string& key() const;  // path of keys from the top, "attn.top_keys"

  // The entries of a map in the order of the file; each node's key() is set. Throws unless a map.
  std::vector<std::pair<std::string, YamlNode>> Entries() const;

  // Each throws kInvalidFile naming file, line and key when the node is of another type or range.
  int64_t Int(IntRange range = {}) const;
  double Float(FloatRange range = {}) const;
  bool Bool() const;  // true, false, yes, no, on, off
  std::string String() const;
  std::vector<int64_t> IntList(IntRange range = {}) const;  // list or set, in the file's order

  // Throws kInvalidFile: "path:line: key 'key': problem".
  [[noreturn]] void Fail(std::string_view problem) const;

 private:
  friend class YamlTreeBuilder;
  struct Node;
  struct Document;
  YamlNode(std::shared_ptr<const Document> document, const Node* node)
      : document_(std::move(document)), node_(node) {}
  [[noreturn]] void FailType(std::string_view wanted) const;

  std::shared_ptr<const Document> document_;
  const Node* node_;
};

}  // namespace tamias
