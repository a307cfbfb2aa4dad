// The fields of a JSON body, read by name and type; what nobody reads is refused. null counts as
// absent, as clients of OpenAI's API send it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tamias::serve {

class RequestFields {
 public:
  // Throws ApiError for what is no JSON object, or is nested deeper than anything we read.
  explicit RequestFields(const std::string& body);

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
  // The field as it is; nullptr when absent.
  const nlohmann::json* Find(std::string_view name);

  // Fields that a client may send and that have no effect here.
  void Ignore(std::initializer_list<std::string_view> names);
  // Throws for a field that was neither read nor ignored, with the nearest name that was.
  void RefuseOthers() const;

 private:
  nlohmann::json object_;
  std::vector<std::string> known_;
};

}  // namespace tamias::serve
