// What every reader of a model's files says about files that are not what their names promise:
// pointers of Git LFS, error pages saved as weights, archives, pickles, links to nothing.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace tamias {

// What a file is by the bytes it begins with ("a Git LFS pointer, ..."), for kinds that are found
// in the place of model files; empty for all else. A few hundred bytes suffice.
std::string DescribeForeignContent(std::string_view beginning);

// Throws kInvalidFile, "path: this is ...", when DescribeForeignContent knows the bytes.
void RefuseForeignContent(const std::filesystem::path& path, std::string_view beginning);

// Whether there is such an entry. A link to nothing is one: who opens it gets the true cause.
// Throws kIo when the folder may not be searched.
bool HasEntry(const std::filesystem::path& path);

// Throws kNotFound unless the path leads to a folder, saying what is there instead.
void RequireFolder(const std::filesystem::path& path);

}  // namespace tamias
