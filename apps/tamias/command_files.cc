// A file that is there is known by its inode, one that is not yet by its path without links.
#include "command_files.h"

#include <sys/stat.h>

#include <algorithm>
#include <system_error>

#include "fail.h"

namespace tamias::cli {
namespace {

namespace fs = std::filesystem;

// Links that lead to nothing yet are followed, too, as when the file is written.
fs::path WithoutLinks(fs::path path) {
  constexpr int kMaxLinks = 40;  // as Linux
  std::error_code error;
  for (int i = 0; i < kMaxLinks && fs::is_symlink(fs::symlink_status(path, error)); ++i) {
    const fs::path next = fs::read_symlink(path, error);
    if (error) break;
    path = path.parent_path() / next;
  }
  path = fs::absolute(path, error);
  const fs::path canonical = fs::weakly_canonical(path, error);
  return error ? path.lexically_normal() : canonical;
}

bool IsWithin(const fs::path& path, const fs::path& folder) {
  return std::mismatch(folder.begin(), folder.end(), path.begin(), path.end()).first ==
         folder.end();
}

// Neither reads nor writes change a device for others.
bool IsDevice(const fs::path& path) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  return fs::is_character_file(status) || fs::is_block_file(status);
}

}  // namespace

CommandFiles::File CommandFiles::Find(const std::string& option, const fs::path& path) {
  File file{option, WithoutLinks(path), std::nullopt};
  struct stat status {};
  if (stat(path.c_str(), &status) == 0) {
    file.node.emplace(status.st_dev, status.st_ino);
    file.is_folder = S_ISDIR(status.st_mode);
  }
  return file;
}

bool CommandFiles::IsSame(const File& a, const File& b) {
  return a.path == b.path || (a.node && a.node == b.node);
}

void CommandFiles::AddInput(const std::string& option, const fs::path& path) {
  if (path.empty()) return;
  inputs_.push_back(Find(option, path));
  if (!inputs_.back().is_folder) return;
  // Links in the folder lead to what is read, too: those of a download cache.
  constexpr int kDeepest = 1;  // a checkpoint's components are folders without folders
  std::error_code error;
  fs::recursive_directory_iterator entries(path, fs::directory_options::follow_directory_symlink,
                                           error);
  for (; !error && entries != fs::recursive_directory_iterator(); entries.increment(error)) {
    inputs_.push_back(Find(option, entries->path()));
    if (entries.depth() >= kDeepest) entries.disable_recursion_pending();
  }
}

void CommandFiles::AddOutput(const std::string& option, const fs::path& path) {
  if (path.empty() || IsDevice(path)) return;
  File output = Find(option, path);
  for (const File& input : inputs_) {
    if (IsSame(input, output)) {
      Fail(ErrorCode::kInvalidArgument, "{}: '{}' is what {} reads: choose another name", option,
           path.string(), input.option);
    }
    if (input.is_folder && IsWithin(output.path, input.path)) {
      Fail(ErrorCode::kInvalidArgument,
           "{}: '{}' is in the folder of {}, where nothing is written: choose another place",
           option, path.string(), input.option);
    }
  }
  for (const File& other : outputs_) {
    if (!IsSame(other, output)) continue;
    Fail(ErrorCode::kInvalidArgument, "{}: '{}' is what {} writes: choose another name", option,
         path.string(), other.option);
  }
  outputs_.push_back(std::move(output));
}

}  // namespace tamias::cli
