// A small tree built from yaml-cpp's events, so that every node keeps its line and the limits are
// checked while parsing.
#include "io/yaml.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <sstream>
#include <unordered_set>

#include "base/check.h"
#include "base/number.h"
#include "io/one_line.h"
#include "tamias/files.h"

namespace tamias {
namespace {

constexpr size_t kMaxBytes = size_t{1} << 20;
constexpr size_t kMaxDepth = 32;
constexpr std::string_view kSetTag = "tag:yaml.org,2002:set";

enum class Kind { kNull, kScalar, kList, kMap };

}  // namespace

struct YamlNode::Node {
  Kind kind = Kind::kNull;
  int line = 1;
  bool is_quoted = false;
  bool is_tagged_set = false;
  std::string key;                                                      // path of keys from the top
  std::string scalar;                                                   // of a scalar
  std::vector<std::pair<std::string, std::unique_ptr<Node>>> children;  // names are empty in a list
};

struct YamlNode::Document {
  std::string source;
  Node root;
};

// Receives the events of one document.
class YamlTreeBuilder : public YAML::EventHandler {
 public:
  using Node = YamlNode::Node;

  explicit YamlTreeBuilder(YamlNode::Document& document) : document_(document) {}

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    FailAt(mark, "aliases are not supported");
  }
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    Add(mark, anchor, Kind::kNull);
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    if (ExpectsKey()) {
      CheckAnchor(mark, anchor);
      AddKey(mark, value);
      return;
    }
    Node& node = Add(mark, anchor, Kind::kScalar);
    node.scalar = value;
    node.is_quoted = tag == "!";
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    Open(mark, Add(mark, anchor, Kind::kList));
  }
  void OnSequenceEnd() override { open_.pop_back(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    Node& node = Add(mark, anchor, Kind::kMap);
    node.is_tagged_set = tag == kSetTag;
    Open(mark, node);
  }
  void OnMapEnd() override { open_.pop_back(); }

  [[noreturn]] void FailAt(const YAML::Mark& mark, std::string_view problem) const {
    Fail(ErrorCode::kInvalidFile, "{}:{}: {}", document_.source, mark.line + 1, OneLine(problem));
  }

 private:
  struct OpenNode {
    Node* node;
    std::unordered_set<std::string> keys;  // of a map, so far
    bool has_key = false;                  // a map's key has been read, its value has not
  };

  bool ExpectsKey() const {
    return !open_.empty() && open_.back().node->kind == Kind::kMap && !open_.back().has_key;
  }

  void CheckAnchor(const YAML::Mark& mark, YAML::anchor_t anchor) const {
    if (anchor != YAML::NullAnchor) FailAt(mark, "anchors are not supported");
  }

  void AddKey(const YAML::Mark& mark, const std::string& name) {
    OpenNode& parent = open_.back();
    if (!parent.keys.insert(name).second) {
      FailAt(mark, fmt::format("key '{}' occurs twice", name));
    }
    auto child = std::make_unique<Node>();
    child->line = mark.line + 1;
    child->key = parent.node->key.empty() ? name : parent.node->key + "." + name;
    parent.node->children.emplace_back(name, std::move(child));
    parent.has_key = true;
  }

  // The node that the event describes: the document's root, a map's value or a list's next element.
  Node& Add(const YAML::Mark& mark, YAML::anchor_t anchor, Kind kind) {
    CheckAnchor(mark, anchor);
    if (ExpectsKey()) FailAt(mark, "expected a plain key");
    Node* node = &document_.root;
    bool has_key = false;
    if (!open_.empty()) {
      OpenNode& parent = open_.back();
      has_key = parent.has_key;
      if (parent.node->kind == Kind::kList) {
        auto child = std::make_unique<Node>();
        child->key = fmt::format("{}[{}]", parent.node->key, parent.node->children.size());
        parent.node->children.emplace_back("", std::move(child));
      }
      parent.has_key = false;
      node = parent.node->children.back().second.get();
    }
    node->kind = kind;
    // A value counts from its key's line: a block map or an absent value ("key:") is marked where
    // the next token stands.
    if (!has_key) node->line = mark.line + 1;
    return *node;
  }

  void Open(const YAML::Mark& mark, Node& node) {
    if (open_.size() == kMaxDepth) {
      FailAt(mark, fmt::format("nested more than {} levels deep", kMaxDepth));
    }
    open_.push_back({&node, {}, false});
  }

  YamlNode::Document& document_;
  std::vector<OpenNode> open_;
};

YamlNode YamlNode::Load(const std::filesystem::path& path) {
  return Parse(ReadFile(path, kMaxBytes), path.string());
}

YamlNode YamlNode::Parse(std::string_view text, std::string source) {
  if (text.size() > kMaxBytes) {
    tamias::Fail(ErrorCode::kInvalidFile, "{}: larger than {} bytes", source, kMaxBytes);
  }
  auto document = std::make_shared<Document>();
  document->source = std::move(source);
  document->root.kind = Kind::kMap;
  YamlTreeBuilder builder(*document);
  try {
    std::istringstream stream{std::string(text)};
    YAML::Parser parser(stream);
    parser.HandleNextDocument(builder);
    Document rest;
    YamlTreeBuilder rest_builder(rest);
    if (parser.HandleNextDocument(rest_builder)) {
      tamias::Fail(ErrorCode::kInvalidFile, "{}: more than one document", document->source);
    }
  } catch (const YAML::Exception& exception) {
    builder.FailAt(exception.mark, "not YAML: " + exception.msg);
  }
  if (document->root.kind == Kind::kNull) document->root.kind = Kind::kMap;
  const Node* root = &document->root;
  return {std::move(document), root};
}

bool YamlNode::IsMap() const { return node_->kind == Kind::kMap; }
bool YamlNode::IsList() const { return node_->kind == Kind::kList; }
bool YamlNode::IsScalar() const { return node_->kind == Kind::kScalar; }
bool YamlNode::IsNull() const { return node_->kind == Kind::kNull; }
int YamlNode::line() const { return node_->line; }
const std::string& YamlNode::key() const { return node_->key; }

bool YamlNode::IsSet() const {
  if (!IsMap()) return false;
  for (const auto& [name, child] : node_->children) {
    if (child->kind != Kind::kNull) return false;
  }
  return node_->is_tagged_set || !node_->children.empty();
}

void YamlNode::Fail(std::string_view problem) const {
  const std::string where = key().empty() ? "" : fmt::format("key '{}': ", OneLine(key()));
  tamias::Fail(ErrorCode::kInvalidFile, "{}:{}: {}{}", document_->source, line(), where,
               OneLine(problem, std::string_view::npos));
}

std::vector<std::pair<std::string, YamlNode>> YamlNode::Entries() const {
  if (!IsMap()) FailType("a map");
  std::vector<std::pair<std::string, YamlNode>> entries;
  for (const auto& [name, child] : node_->children) {
    entries.emplace_back(name, YamlNode(document_, child.get()));
  }
  return entries;
}

void YamlNode::FailType(std::string_view wanted) const {
  constexpr size_t kLongest = 60;
  std::string found = "a map";
  if (IsNull()) found = "nothing";
  if (IsList()) found = fmt::format("a list of {}", node_->children.size());
  if (IsScalar()) {
    found = fmt::format("'{}'", node_->scalar.substr(0, kLongest));
  }
  Fail(fmt::format("expected {}, found {}", wanted, found));
}

namespace {

// YAML also has a sign for numbers that are positive.
template <typename T>
std::optional<T> ParseYamlNumber(std::string_view text) {
  if (text.starts_with('+') && !text.starts_with("+-")) text.remove_prefix(1);
  return ParseNumber<T>(text);
}

template <typename Range>
std::string Describe(std::string_view noun, Range range) {
  const bool has_min = range.min != Range{}.min, has_max = range.max != Range{}.max;
  if (has_min && has_max) return fmt::format("{} in [{}, {}]", noun, range.min, range.max);
  if (has_min) return fmt::format("{} >= {}", noun, range.min);
  if (has_max) return fmt::format("{} <= {}", noun, range.max);
  return std::string(noun);
}

}  // namespace

int64_t YamlNode::Int(IntRange range) const {
  std::optional<int64_t> value;
  if (IsScalar() && !node_->is_quoted) value = ParseYamlNumber<int64_t>(node_->scalar);
  if (!value || *value < range.min || *value > range.max) FailType(Describe("an integer", range));
  return *value;
}

double YamlNode::Float(FloatRange range) const {
  std::optional<double> value;
  if (IsScalar() && !node_->is_quoted) value = ParseYamlNumber<double>(node_->scalar);
  if (!value || *value < range.min || *value > range.max) FailType(Describe("a number", range));
  return *value;
}

bool YamlNode::Bool() const {
  if (IsScalar() && !node_->is_quoted) {
    for (const char* word : {"true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON"}) {
      if (node_->scalar == word) return true;
    }
    for (const char* word : {"false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF"}) {
      if (node_->scalar == word) return false;
    }
  }
  FailType("true or false");
}

std::string YamlNode::String() const {
  if (!IsScalar()) FailType("a string");
  return node_->scalar;
}

std::vector<int64_t> YamlNode::IntList(IntRange range) const {
  std::vector<int64_t> values;
  if (IsSet()) {
    for (const auto& [name, child] : node_->children) {
      const auto value = ParseYamlNumber<int64_t>(name);
      if (!value || *value < range.min || *value > range.max) {
        YamlNode(document_, child.get())
            .Fail(fmt::format("expected {} as an element of a set", Describe("an integer", range)));
      }
      values.push_back(*value);
    }
    return values;
  }
  if (!IsList()) FailType("a list or a set of integers");
  for (const auto& [name, child] : node_->children) {
    values.push_back(YamlNode(document_, child.get()).Int(range));
  }
  return values;
}

}  // namespace tamias
