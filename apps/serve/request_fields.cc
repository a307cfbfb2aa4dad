// Types and ranges of fields; values are quoted in messages, cut where they are long.
#include "request_fields.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "api_error.h"
#include "tamias/base64.h"
#include "tamias/text.h"

namespace tamias::serve {
namespace {

using nlohmann::json;

constexpr int kMaxDepth = 8;
constexpr size_t kMaxQuoted = 60;
constexpr size_t kMaxListed = 1000;

std::string Quote(const json& value) {
  if (value.is_string() && value.get_ref<const std::string&>().size() > 2 * kMaxQuoted) {
    // Cut before it is written: it may be a picture.
    return Quote(json(value.get_ref<const std::string&>().substr(0, kMaxQuoted)));
  }
  std::string text = value.dump(-1, ' ', true, json::error_handler_t::replace);
  if (text.size() > kMaxQuoted) text = text.substr(0, kMaxQuoted) + "...";
  return text;
}

[[noreturn]] void Refuse(std::string_view name, const std::string& expected, const json& value) {
  throw InvalidRequest(std::string(name),
                       fmt::format("{}: expected {}, found {}", name, expected, Quote(value)));
}

// What may name a key of a profile or be its value.
bool IsWord(const std::string& text) {
  return !text.empty() && text.size() <= kMaxQuoted && std::ranges::all_of(text, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '.';
  });
}

// 0.1, true, bf16 or [0, 1, 10].
bool IsPlainValue(const json& value) {
  if (value.is_string()) return IsWord(value.get_ref<const std::string&>());
  if (!value.is_array()) return value.is_number() || value.is_boolean();
  return value.size() <= kMaxListed &&
         std::ranges::all_of(value, [](const json& item) { return item.is_number(); });
}

// Line breaks and tabs are part of a prompt, other control characters are not.
bool IsPlainText(const std::string& text) {
  return std::ranges::none_of(text, [](unsigned char c) {
    return (c < ' ' && c != '\n' && c != '\t' && c != '\r') || c == 0x7f;
  });
}

// Throws ApiError for what is nested deeper than anything we read, json::exception for no JSON.
json Parse(std::string_view text) {
  const auto check_depth = [](int depth, json::parse_event_t, json&) {
    if (depth > kMaxDepth) {
      throw InvalidRequest("", fmt::format("body: nested deeper than {}", kMaxDepth),
                           "invalid_json");
    }
    return true;
  };
  return json::parse(text, check_depth);
}

// The bytes that a text holds in base64, alone or behind "data:image/png;base64,".
std::string FileOf(std::string_view name, const json& value) {
  std::string_view text = value.get_ref<const std::string&>();
  if (text.starts_with("data:")) {
    constexpr std::string_view kMark = ";base64,";
    const size_t mark = text.find(kMark);
    if (mark == std::string_view::npos) Refuse(name, "data:TYPE;base64,...", value);
    text.remove_prefix(mark + kMark.size());
  }
  auto bytes = DecodeBase64(text);
  if (!bytes || bytes->empty()) Refuse(name, "a file in base64", value);
  return std::move(*bytes);
}

bool IsUtf8(const std::string& text) {
  try {
    json(text).dump();
    return true;
  } catch (const json::exception&) {
    return false;
  }
}

}  // namespace

RequestFields::RequestFields(const std::string& body) {
  try {
    object_ = Parse(body);
  } catch (const json::exception&) {
    throw InvalidRequest("", "body: expected JSON in UTF-8", "invalid_json");
  }
  if (!object_.is_object()) {
    throw InvalidRequest("", "body: expected a JSON object", "invalid_json");
  }
}

RequestFields::RequestFields(const std::vector<FormPart>& parts, std::string_view file)
    : object_(json::object()), is_form_(true) {
  for (const FormPart& part : parts) {
    if (!IsUtf8(part.name)) throw InvalidRequest("", "body: a field's name is not UTF-8");
    if (object_.contains(part.name) || (part.name == file && file_)) {
      throw InvalidRequest(part.name.substr(0, kMaxQuoted),
                           fmt::format("{}: is there twice", Quote(json(part.name))));
    }
    if (part.name == file) {
      file_ = part.content;
      continue;
    }
    std::string text(part.content);
    if (!IsUtf8(text)) {
      throw InvalidRequest(part.name.substr(0, kMaxQuoted),
                           fmt::format("{}: expected a text in UTF-8", Quote(json(part.name))));
    }
    object_[part.name] = std::move(text);
  }
}

const json* RequestFields::Find(std::string_view name) {
  known_.emplace_back(name);
  const auto found = object_.find(name);
  return found == object_.end() || found->is_null() ? nullptr : &*found;
}

const json* RequestFields::FindTyped(std::string_view name) {
  const json* value = Find(name);
  if (!is_form_ || value == nullptr || !value->is_string()) return value;
  try {
    json& place = object_[std::string(name)];
    json typed = Parse(place.get_ref<const std::string&>());
    if (!typed.is_string()) place = std::move(typed);
  } catch (const json::exception&) {
    // A text, which whoever asks for something else refuses.
  }
  return Find(name);
}

std::string RequestFields::File(std::string_view name, size_t max_bytes) {
  const json* value = Find(name);
  std::string file;
  if (file_) {
    file = *file_;
    if (file.empty()) throw InvalidRequest(std::string(name), fmt::format("{}: empty", name));
  } else if (value != nullptr) {
    if (!value->is_string()) Refuse(name, "a file in base64", *value);
    file = FileOf(name, *value);
  }
  if (file.size() > max_bytes) {
    throw ApiError(
        413, fmt::format("{}: expected at most {} bytes, found {}", name, max_bytes, file.size()),
        "invalid_request_error", "too_large", std::string(name));
  }
  return file;
}

std::optional<std::string> RequestFields::Text(std::string_view name, size_t max_bytes) {
  const json* value = Find(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_string()) Refuse(name, "a text", *value);
  auto text = value->get<std::string>();
  if (text.size() > max_bytes) {
    throw InvalidRequest(std::string(name), fmt::format("{}: expected at most {} bytes, found {}",
                                                        name, max_bytes, text.size()));
  }
  if (!IsPlainText(text)) Refuse(name, "no control characters", *value);
  return text;
}

std::optional<int64_t> RequestFields::Whole(std::string_view name, int64_t min, int64_t max) {
  const json* value = FindTyped(name);
  if (value == nullptr) return std::nullopt;
  const bool fits = value->is_number_unsigned()
                        ? max >= 0 && value->get<uint64_t>() <= static_cast<uint64_t>(max)
                        : value->is_number_integer() && value->get<int64_t>() <= max;
  if (!fits || value->get<int64_t>() < min) {
    Refuse(name, fmt::format("a whole number from {} to {}", min, max), *value);
  }
  return value->get<int64_t>();
}

std::optional<uint64_t> RequestFields::Seed(std::string_view name) {
  const json* value = FindTyped(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_number_unsigned()) Refuse(name, "a whole number from 0 to 2^64 - 1", *value);
  return value->get<uint64_t>();
}

std::optional<double> RequestFields::Number(std::string_view name, double min, double max) {
  const json* value = FindTyped(name);
  if (value == nullptr) return std::nullopt;
  const double number = value->is_number() ? value->get<double>() : std::nan("");
  if (!(number >= min && number <= max)) {
    Refuse(name, fmt::format("a number from {} to {}", min, max), *value);
  }
  return number;
}

std::optional<bool> RequestFields::Flag(std::string_view name) {
  const json* value = FindTyped(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_boolean()) Refuse(name, "true or false", *value);
  return value->get<bool>();
}

std::optional<std::string> RequestFields::OneOf(std::string_view name,
                                                std::initializer_list<std::string_view> choices) {
  const json* value = Find(name);
  if (value == nullptr) return std::nullopt;
  const bool is_choice =
      value->is_string() &&
      std::ranges::find(choices, value->get_ref<const std::string&>()) != choices.end();
  if (!is_choice) Refuse(name, fmt::format("one of {}", fmt::join(choices, ", ")), *value);
  return value->get<std::string>();
}

std::vector<std::string> RequestFields::Assignments(std::string_view name) {
  const json* value = FindTyped(name);
  std::vector<std::string> assignments;
  if (value == nullptr) return assignments;
  if (!value->is_object()) Refuse(name, "an object of profile keys", *value);
  for (const auto& [key, setting] : value->items()) {
    if (!IsWord(key)) Refuse(name, "names of profile keys", key);
    if (!IsPlainValue(setting)) {
      Refuse(fmt::format("{}.{}", name, key), "a number, true, false, a word or a list of numbers",
             setting);
    }
    assignments.push_back(key + "=" +
                          (setting.is_string() ? setting.get<std::string>() : setting.dump()));
  }
  return assignments;
}

void RequestFields::Ignore(std::initializer_list<std::string_view> names) {
  known_.insert(known_.end(), names.begin(), names.end());
}

void RequestFields::RefuseOthers() const {
  for (const auto& [name, value] : object_.items()) {
    if (std::ranges::find(known_, name) != known_.end()) continue;
    const std::vector<std::string_view> known(known_.begin(), known_.end());
    const std::string nearest = NearestName(name, known);
    throw InvalidRequest(
        name.substr(0, kMaxQuoted),
        fmt::format("{}: unknown field{}", Quote(json(name)),
                    nearest.empty() ? "" : fmt::format("; did you mean '{}'?", nearest)),
        "unknown_field");
  }
}

}  // namespace tamias::serve
