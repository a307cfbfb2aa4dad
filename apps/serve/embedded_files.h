// Files of the source tree that are part of the program: CMake turns them into byte arrays.
#pragma once

#include <string_view>

namespace tamias::serve {

std::string_view Page();             // page.html
std::string_view OpenApiDocument();  // openapi.json

}  // namespace tamias::serve
