// A temporary folder that stands for "/": /proc and /sys as a test wants them.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "tests/support/test_files.h"

namespace tamias {

class FakeRoot {
 public:
  void Write(const std::string& file, std::string_view text) const {
    std::filesystem::create_directories((folder_ / file).parent_path());
    WriteBytes(folder_ / file, text);
  }
  const std::filesystem::path& path() const { return folder_.path(); }

 private:
  TemporaryFolder folder_;
};

}  // namespace tamias
