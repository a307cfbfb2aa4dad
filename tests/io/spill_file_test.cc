#include "io/spill_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "tamias/files.h"
#include "tests/support/errors.h"

namespace tamias {
namespace {

TEST(SpillFile, IsZeroedKeepsWhatIsReleasedAndLeavesNoFile) {
  const std::filesystem::path folder = std::filesystem::path(testing::TempDir()) / "spill";
  std::filesystem::create_directories(folder);
  const size_t size = 3 * PageBytes() + 100;
  const SpillFile file(folder, size);
  EXPECT_TRUE(std::filesystem::is_empty(folder));
  for (size_t i = 0; i < size; ++i) {
    ASSERT_EQ(file.data()[i], std::byte{0});
    file.data()[i] = static_cast<std::byte>(i % 251);
  }
  ReleasePages(file.data(), size);
  for (size_t i = 0; i < size; ++i) ASSERT_EQ(file.data()[i], static_cast<std::byte>(i % 251));
}

TEST(SpillFile, NamesTheFolderThatCannotTakeIt) {
  ExpectError("/nonexistent: cannot create a temporary file",
              [] { SpillFile("/nonexistent", 10); });
  EXPECT_THROW(SpillFile(testing::TempDir(), size_t{1} << 60), Error);
}

TEST(SpillFile, FollowsTmpdir) {
  setenv("TMPDIR", "/somewhere", 1);
  EXPECT_EQ(SpillFolder(), "/somewhere");
  unsetenv("TMPDIR");
  EXPECT_EQ(SpillFolder(), "/var/tmp");
}

}  // namespace
}  // namespace tamias
