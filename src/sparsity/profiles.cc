// Where sparsity profiles are found: $TAMIAS_CONFIGS, the source tree, beside the program's prefix
// (PREFIX/bin/program, PREFIX/share/tamias/configs), and the folder set at configuration time.
#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "base/check.h"
#include "base/nearest_name.h"
#include "sparsity/config.h"

namespace tamias {
namespace {

namespace fs = std::filesystem;

std::vector<fs::path> ProfileFolders() {
  std::vector<fs::path> folders;
  if (const char* folder = std::getenv("TAMIAS_CONFIGS"); folder != nullptr && *folder != '\0') {
    folders.emplace_back(folder);
  }
#ifdef TAMIAS_SOURCE_CONFIGS
  folders.emplace_back(TAMIAS_SOURCE_CONFIGS);
#endif
  std::error_code ignored;
  const fs::path program = fs::read_symlink("/proc/self/exe", ignored);
  if (!program.empty()) {
    folders.push_back(program.parent_path().parent_path() / "share" / "tamias" / "configs");
  }
#ifdef TAMIAS_INSTALLED_CONFIGS
  folders.emplace_back(TAMIAS_INSTALLED_CONFIGS);
#endif
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
       names.empty() ? "none" : fmt::format("{}", fmt::join(names, ", ")));
}

}  // namespace tamias
