// Errors of the operating system as ours: "path: cannot open: Permission denied".
#pragma once

#include <filesystem>
#include <string_view>

#include "base/check.h"

namespace tamias {

// `error` is an errno value; ENOENT and ENOTDIR become kNotFound when `reading`, all else kIo.
[[noreturn]] void FailSystem(const std::filesystem::path& path, std::string_view what, int error,
                             bool reading);

}  // namespace tamias
