// The files that a command reads and those that it writes: none is written twice, and none that is
// read is written over, whatever names and links lead to it.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace tamias::cli {

class CommandFiles {
 public:
  // A file that the option reads, or a folder in which nothing may change. "" and what is not there
  // are for others to refuse.
  void AddInput(const std::string& option, const std::filesystem::path& path);
  // A file or folder that the option writes; "" is one that nobody asked for. Throws
  // kInvalidArgument, naming the file and both options, when another one reads or writes it or it
  // lies in a folder of the inputs. Devices take what comes.
  void AddOutput(const std::string& option, const std::filesystem::path& path);

 private:
  struct File {
    std::string option;
    std::filesystem::path path;                   // links followed
    std::optional<std::pair<dev_t, ino_t>> node;  // of what is there
    bool is_folder = false;
  };

  static File Find(const std::string& option, const std::filesystem::path& path);
  static bool IsSame(const File& a, const File& b);

  std::vector<File> inputs_;
  std::vector<File> outputs_;
};

}  // namespace tamias::cli
