// JSON parsing with limits, and typed access to fields.
#include "io/json.h"

#include <charconv>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <unordered_set>

#include "base/check.h"
#include "io/json_text.h"
#include "io/model_file.h"
#include "io/one_line.h"
#include "tamias/files.h"

namespace tamias {

using nlohmann::json;

namespace {

// Calls on_token(begin, size, value) for each NaN, Infinity and -Infinity outside of strings: what
// Python's json writes for such numbers, and RFC 8259 does not have.
template <typename OnToken>
void FindNonFiniteTokens(std::string_view text, const OnToken& on_token) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  static constexpr std::pair<std::string_view, double> kTokens[] = {
      {"NaN", std::numeric_limits<double>::quiet_NaN()},
      {"Infinity", kInfinity},
      {"-Infinity", -kInfinity}};
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '"') in_string = !in_string;
    if (in_string) {
      if (text[i] == '\\') ++i;
      continue;
    }
    for (const auto& [token, value] : kTokens) {
      if (!text.substr(i).starts_with(token)) continue;
      on_token(i, token.size(), value);
      i += token.size() - 1;
      break;
    }
  }
}

// Text of which the JSON parser can read every token: numbers that are not finite stand in it as
// strings that nothing else in it equals.
class FiniteText {
 public:
  explicit FiniteText(std::string_view text) : text_(text) {
    if (text.find("NaN") == text.npos && text.find("Infinity") == text.npos) return;
    while (text.find(mark_) != text.npos) mark_ += '#';
    std::string replaced;
    size_t done = 0;
    FindNonFiniteTokens(text, [&](size_t begin, size_t size, double value) {
      replaced += text.substr(done, begin - done);
      replaced += fmt::format("\"{}{}\"", mark_, values_.size());
      values_.push_back(value);
      done = begin + size;
    });
    if (values_.empty()) return;
    replaced += text.substr(done);
    storage_ = std::move(replaced);
    text_ = storage_;
  }

  std::string_view text() const { return text_; }

  // Puts the number back that a parsed string stands for; false when it is a string.
  bool Restore(json& value) const {
    if (values_.empty() || !value.is_string()) return false;
    const std::string& text = value.get_ref<const std::string&>();
    if (!text.starts_with(mark_)) return false;
    size_t index = 0;
    const char* end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(text.data() + mark_.size(), end, index);
    if (error != std::errc() || stop != end || index >= values_.size()) return false;
    value = values_[index];
    return true;
  }

 private:
  std::string mark_ = "not a finite number #";
  std::string storage_;
  std::string_view text_;
  std::vector<double> values_;
};

}  // namespace

json ParseJson(std::string_view text, const std::string& source) {
  const FiniteText finite(text);
  std::vector<std::unordered_set<std::string>> keys;  // of the objects being parsed
  const auto check = [&](int depth, json::parse_event_t event, json& value) {
    if (depth > kMaxJsonDepth) {
      Fail(ErrorCode::kInvalidFile, "{}: nested more than {} levels deep", source, kMaxJsonDepth);
    }
    if (event == json::parse_event_t::object_start) keys.emplace_back();
    if (event == json::parse_event_t::object_end) keys.pop_back();
    if (event == json::parse_event_t::key && finite.Restore(value)) {
      Fail(ErrorCode::kInvalidFile, "{}: not JSON: a number in the place of a key", source);
    }
    if (event == json::parse_event_t::key &&
        !keys.back().insert(value.get_ref<const std::string&>()).second) {
      Fail(ErrorCode::kInvalidFile, "{}: key {} occurs twice", source, OneLine(value.dump()));
    }
    if (event == json::parse_event_t::value) finite.Restore(value);
    return true;
  };
  try {
    return json::parse(finite.text().begin(), finite.text().end(), check);
  } catch (const json::exception& exception) {
    std::string_view what = exception.what();  // "[json.exception.parse_error.101] parse error ..."
    if (const size_t end = what.find("] "); end != what.npos) what.remove_prefix(end + 2);
    const auto* error = dynamic_cast<const json::parse_error*>(&exception);
    const bool is_cut_off = error != nullptr && !text.empty() && error->byte > finite.text().size();
    Fail(ErrorCode::kInvalidFile, "{}: not JSON{}: {}", source, is_cut_off ? ", cut off" : "",
         OneLine(what));
  }
}

struct JsonObject::Document {
  std::string source;
  json root;
};

namespace {

// A value as it stands in the file, shortened for a one-line message.
std::string Quote(const json& value) {
  constexpr size_t kLongest = 60;
  if (value.is_object()) return "an object";
  if (value.is_array()) return fmt::format("an array of {}", value.size());
  if (value.is_number_float() && !std::isfinite(value.get<double>())) {
    const double number = value.get<double>();
    return std::isnan(number) ? "NaN" : number > 0 ? "Infinity" : "-Infinity";
  }
  std::string text = value.dump(-1, ' ', /*ensure_ascii=*/true);
  if (text.size() > kLongest) text = text.substr(0, kLongest) + "...";
  return text;
}

std::string Describe(IntRange range) {
  const bool has_min = range.min != IntRange{}.min, has_max = range.max != IntRange{}.max;
  if (has_min && has_max) return fmt::format("an integer in [{}, {}]", range.min, range.max);
  if (has_min) return fmt::format("an integer >= {}", range.min);
  if (has_max) return fmt::format("an integer <= {}", range.max);
  return "an integer";
}

std::string Describe(FloatRange range) {
  const bool has_min = range.min != FloatRange{}.min, has_max = range.max != FloatRange{}.max;
  if (has_min && has_max) return fmt::format("a number in [{}, {}]", range.min, range.max);
  if (has_min) return fmt::format("a number >= {}", range.min);
  if (has_max) return fmt::format("a number <= {}", range.max);
  return "a number";
}

[[noreturn]] void FailType(const JsonObject& object, std::string_view key, std::string_view wanted,
                           const json& found) {
  object.FailField(key, fmt::format("expected {}, found {}", wanted, Quote(found)));
}

int64_t ToInt(const JsonObject& object, std::string_view key, const json& value, IntRange range) {
  const bool fits = value.is_number_integer() &&
                    (!value.is_number_unsigned() ||
                     value.get<uint64_t>() <= uint64_t{std::numeric_limits<int64_t>::max()});
  if (!fits || value.get<int64_t>() < range.min || value.get<int64_t>() > range.max) {
    FailType(object, key, Describe(range), value);
  }
  return value.get<int64_t>();
}

double ToFloat(const JsonObject& object, std::string_view key, const json& value,
               FloatRange range) {
  if (!value.is_number() || !std::isfinite(value.get<double>()) ||
      value.get<double>() < range.min || value.get<double>() > range.max) {
    FailType(object, key, Describe(range), value);
  }
  return value.get<double>();
}

bool ToBool(const JsonObject& object, std::string_view key, const json& value) {
  if (!value.is_boolean()) FailType(object, key, "true or false", value);
  return value.get<bool>();
}

std::string ToString(const JsonObject& object, std::string_view key, const json& value) {
  if (!value.is_string()) FailType(object, key, "a string", value);
  return value.get<std::string>();
}

std::string ElementKey(std::string_view key, size_t index) {
  return fmt::format("{}[{}]", key, index);
}

const json& ToArray(const JsonObject& object, std::string_view key, const json& value,
                    std::string_view elements) {
  if (!value.is_array()) FailType(object, key, fmt::format("an array of {}", elements), value);
  return value;
}

}  // namespace

JsonObject JsonObject::Load(const std::filesystem::path& path) {
  const std::string text = ReadFile(path, kMaxJsonBytes);
  if (text.empty()) Fail(ErrorCode::kInvalidFile, "{}: empty, not JSON", path.string());
  RefuseForeignContent(path, text);
  return Parse(text, path.string());
}

JsonObject JsonObject::Parse(std::string_view text, std::string source) {
  json root = ParseJson(text, source);
  if (!root.is_object()) {
    Fail(ErrorCode::kInvalidFile, "{}: expected a JSON object, found {}", source, Quote(root));
  }
  auto document = std::make_shared<Document>(Document{std::move(source), std::move(root)});
  const json* node = &document->root;
  return {std::move(document), node, ""};
}

const std::string& JsonObject::source() const { return document_->source; }

std::string JsonObject::PathOf(std::string_view key) const {
  return path_.empty() ? std::string(key) : fmt::format("{}.{}", path_, key);
}

void JsonObject::FailField(std::string_view key, std::string_view problem) const {
  Fail(ErrorCode::kInvalidFile, "{}: field '{}': {}", source(), OneLine(PathOf(key)), problem);
}

bool JsonObject::Has(std::string_view key) const {
  const auto it = node_->find(key);
  return it != node_->end() && !it->is_null();
}

std::vector<std::string> JsonObject::Keys() const {
  std::vector<std::string> keys;
  for (const auto& item : node_->items()) keys.push_back(item.key());
  return keys;
}

const json& JsonObject::Field(std::string_view key) const {
  if (!Has(key)) FailField(key, "missing");
  return *node_->find(key);
}

int64_t JsonObject::Int(std::string_view key, IntRange range) const {
  return ToInt(*this, key, Field(key), range);
}

double JsonObject::Float(std::string_view key, FloatRange range) const {
  return ToFloat(*this, key, Field(key), range);
}

bool JsonObject::Bool(std::string_view key) const { return ToBool(*this, key, Field(key)); }

std::string JsonObject::String(std::string_view key) const {
  return ToString(*this, key, Field(key));
}

std::vector<int64_t> JsonObject::IntArray(std::string_view key, IntRange range) const {
  const json& array = ToArray(*this, key, Field(key), "integers");
  std::vector<int64_t> values;
  for (size_t i = 0; i < array.size(); ++i) {
    values.push_back(ToInt(*this, ElementKey(key, i), array[i], range));
  }
  return values;
}

std::vector<double> JsonObject::FloatArray(std::string_view key, FloatRange range) const {
  const json& array = ToArray(*this, key, Field(key), "numbers");
  std::vector<double> values;
  for (size_t i = 0; i < array.size(); ++i) {
    values.push_back(ToFloat(*this, ElementKey(key, i), array[i], range));
  }
  return values;
}

std::vector<bool> JsonObject::BoolArray(std::string_view key) const {
  const json& array = ToArray(*this, key, Field(key), "booleans");
  std::vector<bool> values;
  for (size_t i = 0; i < array.size(); ++i) {
    values.push_back(ToBool(*this, ElementKey(key, i), array[i]));
  }
  return values;
}

std::vector<std::string> JsonObject::StringArray(std::string_view key) const {
  const json& array = ToArray(*this, key, Field(key), "strings");
  std::vector<std::string> values;
  for (size_t i = 0; i < array.size(); ++i) {
    values.push_back(ToString(*this, ElementKey(key, i), array[i]));
  }
  return values;
}

JsonObject JsonObject::Object(std::string_view key) const {
  const json& value = Field(key);
  if (!value.is_object()) FailType(*this, key, "an object", value);
  return {document_, &value, PathOf(key)};
}

std::vector<JsonObject> JsonObject::ObjectArray(std::string_view key) const {
  const json& array = ToArray(*this, key, Field(key), "objects");
  std::vector<JsonObject> values;
  for (size_t i = 0; i < array.size(); ++i) {
    if (!array[i].is_object()) FailType(*this, ElementKey(key, i), "an object", array[i]);
    values.push_back({document_, &array[i], PathOf(ElementKey(key, i))});
  }
  return values;
}

int64_t JsonObject::IntOr(std::string_view key, int64_t fallback, IntRange range) const {
  return Has(key) ? Int(key, range) : fallback;
}

double JsonObject::FloatOr(std::string_view key, double fallback, FloatRange range) const {
  return Has(key) ? Float(key, range) : fallback;
}

bool JsonObject::BoolOr(std::string_view key, bool fallback) const {
  return Has(key) ? Bool(key) : fallback;
}

std::string JsonObject::StringOr(std::string_view key, std::string fallback) const {
  return Has(key) ? String(key) : std::move(fallback);
}

std::vector<int64_t> JsonObject::IntArrayOr(std::string_view key, std::vector<int64_t> fallback,
                                            IntRange range) const {
  return Has(key) ? IntArray(key, range) : std::move(fallback);
}

std::vector<std::string> JsonObject::StringArrayOr(std::string_view key,
                                                   std::vector<std::string> fallback) const {
  return Has(key) ? StringArray(key) : std::move(fallback);
}

}  // namespace tamias
