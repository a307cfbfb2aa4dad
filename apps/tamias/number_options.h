// Options with numbers, read by the parser that the whole library uses (tamias/text.h) instead of
// CLI11's, which takes octal and hexadecimal digits and saturates.
#pragma once

#include <CLI/CLI.hpp>
#include <cstddef>
#include <string>
#include <vector>

#include "tamias/text.h"

namespace tamias::cli {

// T: int, int64_t, uint64_t, double, or std::optional of one of them. What does not hold T is
// refused with the option's name; ranges are checked by whoever takes the value.
template <typename T>
CLI::Option* AddNumber(CLI::App& command, const std::string& name, T& value,
                       const std::string& description) {
  return command.add_option_function<std::string>(
      name,
      [&value, name](const std::string& text) {
        if constexpr (requires { typename T::value_type; }) {
          value = NumberFrom<typename T::value_type>(name, text);
        } else {
          value = NumberFrom<T>(name, text);
        }
      },
      description);
}

// An option that may be repeated.
inline CLI::Option* AddNumbers(CLI::App& command, const std::string& name,
                               std::vector<double>& values, const std::string& description) {
  return command
      .add_option_function<std::vector<std::string>>(
          name,
          [&values, name](const std::vector<std::string>& texts) {
            values.clear();
            for (const std::string& text : texts) values.push_back(NumberFrom<double>(name, text));
          },
          description)
      ->take_all();
}

// Bytes, with a unit or without.
inline CLI::Option* AddBytes(CLI::App& command, const std::string& name, size_t& value,
                             const std::string& description) {
  return command.add_option_function<std::string>(
      name, [&value, name](const std::string& text) { value = BytesFrom(name, text); },
      description);
}

}  // namespace tamias::cli
