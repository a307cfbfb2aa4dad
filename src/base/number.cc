// Bytes with units, and the one line that says what was expected and what was found.
#include "base/number.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <string>

#include "base/check.h"

namespace tamias {
namespace {

// What of a text an error message shows.
std::string Shown(std::string_view text) {
  constexpr size_t kLongest = 60;
  return text.size() <= kLongest ? std::string(text)
                                 : fmt::format("{}...", text.substr(0, kLongest));
}

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

}  // namespace

template <typename T>
T NumberFrom(std::string_view name, std::string_view text) {
  if (const std::optional<T> value = ParseNumber<T>(text)) return *value;
  std::string expected = "a number";
  if constexpr (std::is_integral_v<T>) {
    // The limits explain a number that is too large or negative; of "many" they would say nothing.
    const std::string_view digits = text.substr(text.starts_with('-') ? 1 : 0);
    expected = "a whole number";
    if (!digits.empty() && std::ranges::all_of(digits, IsDigit)) {
      expected += fmt::format(" from {} to {}", std::numeric_limits<T>::min(),
                              std::numeric_limits<T>::max());
    }
  }
  Fail(ErrorCode::kInvalidArgument, "{}: expected {}, found '{}'", name, expected, Shown(text));
}

template int NumberFrom<int>(std::string_view, std::string_view);
template int64_t NumberFrom<int64_t>(std::string_view, std::string_view);
template uint64_t NumberFrom<uint64_t>(std::string_view, std::string_view);
template double NumberFrom<double>(std::string_view, std::string_view);

size_t BytesFrom(std::string_view name, std::string_view text) {
  const size_t digits = std::min(text.find_first_not_of("0123456789."), text.size());
  std::string unit(text.substr(digits));
  if (unit.size() > 1 && unit.front() == ' ') unit.erase(0, 1);
  std::ranges::transform(unit, unit.begin(), [](char c) {
    return c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c;
  });
  constexpr std::string_view kUnits = "KMGT";
  double scale = 1;
  bool is_unit = unit.empty() || unit == "B";
  if (const size_t power = kUnits.find(unit.empty() ? '?' : unit.front());
      power != std::string_view::npos) {
    scale = std::ldexp(1.0, 10 * (static_cast<int>(power) + 1));
    const std::string_view rest = std::string_view(unit).substr(1);
    is_unit = rest.empty() || rest == "B" || rest == "IB";
  }
  const double number = ParseNumber<double>(text.substr(0, digits)).value_or(-1);
  const double bytes = number * scale;
  constexpr double kEnd = 0x1p63;  // far above any machine, within size_t and off_t
  // Less than a byte must not become 0, which may mean "no limit".
  if (!is_unit || bytes < 0 || bytes >= kEnd || (bytes > 0 && bytes < 1)) {
    Fail(ErrorCode::kInvalidArgument,
         "{}: expected bytes, as in 8GiB, 500MiB or 1000000000, found '{}'", name, Shown(text));
  }
  return static_cast<size_t>(bytes);
}

}  // namespace tamias
