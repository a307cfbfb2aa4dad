// Thin layer over utf8proc.
#include "io/unicode.h"

#include <utf8proc.h>

#include <cstdlib>
#include <memory>

#include "base/check.h"

namespace tamias {
namespace {

const utf8proc_uint8_t* Bytes(std::string_view text) {
  return reinterpret_cast<const utf8proc_uint8_t*>(text.data());
}

}  // namespace

void CheckUtf8(std::string_view text, std::string_view name) {
  for (size_t i = 0; i < text.size();) {
    utf8proc_int32_t code_point;
    const utf8proc_ssize_t size = utf8proc_iterate(
        Bytes(text) + i, static_cast<utf8proc_ssize_t>(text.size() - i), &code_point);
    if (size <= 0) Fail(ErrorCode::kInvalidArgument, "{}: byte {} is not valid UTF-8", name, i);
    i += static_cast<size_t>(size);
  }
}

Utf8Character CharacterAt(std::string_view text, size_t begin) {
  TAMIAS_CHECK(begin < text.size());
  Utf8Character character{.begin = begin};
  const utf8proc_ssize_t size =
      utf8proc_iterate(Bytes(text) + begin, static_cast<utf8proc_ssize_t>(text.size() - begin),
                       &character.code_point);
  TAMIAS_CHECK(size > 0);
  character.size = static_cast<size_t>(size);
  return character;
}

bool IsWhitespace(int32_t code_point) {
  if ((code_point >= 0x09 && code_point <= 0x0D) || code_point == 0x85) return true;
  const utf8proc_category_t category = utf8proc_category(code_point);
  return category == UTF8PROC_CATEGORY_ZS || category == UTF8PROC_CATEGORY_ZL ||
         category == UTF8PROC_CATEGORY_ZP;
}

bool IsLetter(int32_t code_point) {
  const utf8proc_category_t category = utf8proc_category(code_point);
  return category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO;
}

bool IsNumber(int32_t code_point) {
  const utf8proc_category_t category = utf8proc_category(code_point);
  return category >= UTF8PROC_CATEGORY_ND && category <= UTF8PROC_CATEGORY_NO;
}

bool IsWord(int32_t code_point) {
  const utf8proc_category_t category = utf8proc_category(code_point);
  const bool is_mark = category >= UTF8PROC_CATEGORY_MN && category <= UTF8PROC_CATEGORY_ME;
  return IsLetter(code_point) || is_mark || category == UTF8PROC_CATEGORY_ND ||
         category == UTF8PROC_CATEGORY_NL || category == UTF8PROC_CATEGORY_PC;
}

void AppendUtf8(std::string& text, int32_t code_point) {
  utf8proc_uint8_t bytes[4];
  const utf8proc_ssize_t size = utf8proc_encode_char(code_point, bytes);
  text.append(reinterpret_cast<const char*>(bytes), static_cast<size_t>(size));
}

std::string ComposeNfc(std::string_view text) {
  utf8proc_uint8_t* result = nullptr;
  const utf8proc_ssize_t size =
      utf8proc_map(Bytes(text), static_cast<utf8proc_ssize_t>(text.size()), &result,
                   static_cast<utf8proc_option_t>(UTF8PROC_COMPOSE | UTF8PROC_STABLE));
  if (size == UTF8PROC_ERROR_NOMEM) {
    Fail(ErrorCode::kOutOfMemory, "text of {} bytes: no memory to normalise it", text.size());
  }
  TAMIAS_CHECK(size >= 0);
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(result, std::free);
  return {reinterpret_cast<const char*>(result), static_cast<size_t>(size)};
}

std::string Lowercase(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    const Utf8Character character = CharacterAt(text, i);
    // The one character whose lower case is two: I with a dot above is i and a combining dot.
    if (character.code_point == 0x130) {
      result += "i\u0307";
    } else {
      AppendUtf8(result, utf8proc_tolower(character.code_point));
    }
    i += character.size;
  }
  return result;
}

size_t GraphemeEnd(std::string_view text, size_t begin) {
  utf8proc_int32_t state = 0;
  Utf8Character last = CharacterAt(text, begin);
  size_t end = begin + last.size;
  while (end < text.size()) {
    const Utf8Character next = CharacterAt(text, end);
    if (utf8proc_grapheme_break_stateful(last.code_point, next.code_point, &state)) break;
    end += next.size;
    last = next;
  }
  return end;
}

}  // namespace tamias
