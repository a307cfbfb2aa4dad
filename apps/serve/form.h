// Bodies of forms with files (multipart/form-data, RFC 7578), as OpenAI's clients send pictures.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace tamias::serve {

struct FormPart {
  std::string name;
  std::string_view content;  // within the body
};

// In their order. Throws ApiError (400) for what is no such body, and for more than 64 parts.
std::vector<FormPart> ReadForm(std::string_view body, std::string_view content_type);

// The type and subtype of a Content-Type, in lower case: "multipart/form-data".
std::string MediaType(std::string_view content_type);

}  // namespace tamias::serve
