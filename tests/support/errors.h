// What tests of refusals share: the text of the tamias::Error that an action throws, and matching
// it by code and text.
#pragma once

#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <string_view>

#include "tamias/error.h"

namespace tamias {

// The message of the error that `body` throws, of the code where one is given; "" without an error.
template <typename Body>
std::string ErrorOf(const Body& body, std::optional<ErrorCode> code = std::nullopt) {
  try {
    body();
  } catch (const Error& error) {
    if (code) {
      EXPECT_EQ(error.code(), *code) << error.what();
    }
    return error.what();
  }
  return "";
}

// The same of an argument that is refused.
template <typename Body>
std::string ArgumentErrorOf(const Body& body) {
  return ErrorOf(body, ErrorCode::kInvalidArgument);
}

// Expects `body` to throw an Error in one line whose text contains `text`, of the code where one is
// given.
template <typename Body>
void ExpectError(std::optional<ErrorCode> code, std::string_view text, const Body& body) {
  const std::string found = ErrorOf(body, code);
  EXPECT_NE(found, "") << "no error; expected one with: " << text;
  EXPECT_NE(found.find(text), std::string::npos) << "expected: " << text << "\nfound: " << found;
  EXPECT_EQ(found.find('\n'), std::string::npos) << found;
}
template <typename Body>
void ExpectError(std::string_view text, const Body& body) {
  ExpectError(std::nullopt, text, body);
}

}  // namespace tamias
