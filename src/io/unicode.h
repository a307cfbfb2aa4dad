// UTF-8 and the character properties that tokenizers ask for, as the `tokenizers` library of
// Hugging Face defines them. Characters added after Unicode 15.0 (utf8proc 2.8) count as
// unassigned.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace tamias {

// One character of a UTF-8 text: its code point and its bytes.
struct Utf8Character {
  int32_t code_point = 0;
  size_t begin = 0;
  size_t size = 0;  // in bytes
};

// Throws kInvalidArgument, "text: byte 12 is not valid UTF-8"; `name` is what it calls the text.
void CheckUtf8(std::string_view text, std::string_view name = "text");

// The character that begins at byte `begin` < text.size(). The text must be valid.
Utf8Character CharacterAt(std::string_view text, size_t begin);

bool IsWhitespace(int32_t code_point);  // property White_Space
bool IsLetter(int32_t code_point);      // \p{L}
bool IsNumber(int32_t code_point);      // \p{N}
bool IsWord(int32_t code_point);        // letters, marks, digits, connectors

void AppendUtf8(std::string& text, int32_t code_point);
// Canonical composition (NFC).
std::string ComposeNfc(std::string_view text);
// Character by character, without regard to context or language.
std::string Lowercase(std::string_view text);
// The end of the grapheme cluster (user-perceived character) that begins at byte `begin`.
size_t GraphemeEnd(std::string_view text, size_t begin);

}  // namespace tamias
