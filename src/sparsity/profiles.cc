// Where sparsity profiles are found: $TAMIAS_CONFIGS, and one folder of shipped profiles. An
// installed program never reads the source tree it was built from, which may have moved on.
#include <dlfcn.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "base/check.h"
#include "tamias/sparsity/config.h"
#include "tamias/text.h"

namespace tamias {
namespace {

namespace fs = std::filesystem;

bool IsBelow(const fs::path& path, const fs::path& folder) {
  const fs::path relative = path.lexically_relative(folder);
  return !relative.empty() && *relative.begin() != "..";
}

// The program or shared object that this code is in: of Python, the package's module.
fs::path ThisObject() {
  Dl_info info;
  std::error_code ignored;
  if (dladdr(reinterpret_cast<const void*>(&ThisObject), &info) == 0) return {};
  return fs::canonical(info.dli_fname, ignored);
}

// Profiles of one version only: the first folder that fits, not what several of them hold.
fs::path ShippedProfiles() {
  std::error_code ignored;
  const fs::path program = fs::read_symlink("/proc/self/exe", ignored);
  const fs::path beside = program.parent_path().parent_path() / "share" / "tamias" / "configs";
  const fs::path object = ThisObject();
  const bool is_module = !object.empty() && object != program;
  if (is_module && fs::is_directory(object.parent_path() / "configs", ignored)) {
    return object.parent_path() / "configs";
  }
  if (!program.empty() && fs::is_directory(beside, ignored)) return beside;
  if (!program.empty() && IsBelow(program, fs::canonical(TAMIAS_BUILD_TREE, ignored))) {
    return TAMIAS_SOURCE_CONFIGS;
  }
  return TAMIAS_INSTALLED_CONFIGS;
}

std::vector<fs::path> ProfileFolders() {
  std::vector<fs::path> folders;
  if (const char* folder = std::getenv("TAMIAS_CONFIGS"); folder != nullptr && *folder != '\0') {
    folders.emplace_back(folder);
  }
  folders.push_back(ShippedProfiles());
  return folders;
}

}  // namespace

std::vector<std::string> ListProfiles() {
  std::vector<std::string> names;
  for (const fs::path& folder : ProfileFolders()) {
    std::error_code ignored;
    for (const fs::directory_entry& entry : fs::directory_iterator(folder, ignored)) {
      if (entry.path().extension() == ".yml") names.push_back(entry.path().stem().string());
    }
  }
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  return names;
}

fs::path FindProfile(std::string_view name) {
  const bool is_plain = !name.empty() && name.find('/') == std::string_view::npos &&
                        name.find('\0') == std::string_view::npos;
  for (const fs::path& folder : ProfileFolders()) {
    const fs::path path = folder / (std::string(name) + ".yml");
    std::error_code ignored;
    if (is_plain && fs::is_regular_file(path, ignored)) return path;
  }
  const std::vector<std::string> names = ListProfiles();
  const std::vector<std::string_view> known(names.begin(), names.end());
  const std::string nearest = NearestName(name, known);
  Fail(ErrorCode::kNotFound, "sparsity profile '{}': not found{}; there are: {}", name,
       nearest.empty() ? "" : fmt::format(", did you mean '{}'?", nearest),
       names.empty() ? fmt::format("none in {}; set $TAMIAS_CONFIGS", ShippedProfiles().string())
                     : fmt::format("{}", fmt::join(names, ", ")));
}

}  // namespace tamias
