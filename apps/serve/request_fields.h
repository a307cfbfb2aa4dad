// The fields of a body, JSON or a form, read by name and type; what nobody reads is refused. null
// counts as absent, as clients of OpenAI's API send it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "form.h"

namespace tamias::serve {

class RequestFields {
 public:
  // Throws ApiError for what is no JSON object, or is nested deeper than anything we read.
  explicit RequestFields(const std::string& body);
  // Of a form: its texts, in which numbers, true, false and objects stand as they would in JSON,
  // but for `file`, which comes as it is. Throws ApiError, also for a field that is there twice.
  RequestFields(const std::vector<FormPart>& parts, std::string_view file);

  // Each throws ApiError naming the field, what it may be and what it was.
  std::optional<std::string> Text(std::string_view name, size_t max_bytes);
  std::optional<int64_t> Whole(std::string_view name, int64_t min, int64_t max);
  std::optional<uint64_t> Seed(std::string_view name);
  std::optional<double> Number(std::string_view name, double min, double max);
  std::optional<bool> Flag(std::string_view name);
  std::optional<std::string> OneOf(std::string_view name,
                                   std::initializer_list<std::string_view> choices);
  // An object, whose keys become "key=value" for numbers, true, false, words and lists of numbers.
  std::vector<std::string> Assignments(std::string_view name);
  // The file of a form, or what a field of JSON holds in base64, alone or behind
  // "data:image/png;base64,". Empty: absent.
  std::string File(std::string_view name, size_t max_bytes);
  // The field as it is; nullptr when absent.
  const nlohmann::json* Find(std::string_view name);

  // Fields that a client may send and that have no effect here.
  void Ignore(std::initializer_list<std::string_view> names);
  // Throws for a field that was neither read nor ignored, with the nearest name that was.
  void RefuseOthers() const;

 private:
  // The same, where it is a text of a form that is not one in JSON.
  const nlohmann::json* FindTyped(std::string_view name);

  nlohmann::json object_;
  bool is_form_ = false;
  std::optional<std::string_view> file_;  // of a form
  std::vector<std::string> known_;
};

}  // namespace tamias::serve
