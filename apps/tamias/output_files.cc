// Numbered names, writability tried before the work begins, frames as frame-0001.png and on.
#include "output_files.h"

#include <fmt/format.h>

#include "base/check.h"
#include "io/atomic_file.h"

namespace tamias::cli {

std::filesystem::path NumberedPath(const std::filesystem::path& path, size_t index, size_t count) {
  if (count == 1) return path;
  std::filesystem::path numbered = path;
  return numbered.replace_filename(
      fmt::format("{}-{}{}", path.stem().string(), index + 1, path.extension().string()));
}

void CheckWritable(const std::filesystem::path& path) {
  if (!path.empty()) AtomicFile file(path);  // creates and removes the temporary file
}

void CreateFolder(const std::filesystem::path& folder) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) Fail(ErrorCode::kIo, "{}: cannot create: {}", folder.string(), error.message());
}

void WriteFrames(const std::filesystem::path& folder, const Video& video,
                 const std::map<std::string, std::string>& text) {
  for (size_t i = 0; i < video.frames.size(); ++i) {
    WritePng(folder / fmt::format("frame-{:04}.png", i + 1), video.frames[i], text);
  }
}

}  // namespace tamias::cli
