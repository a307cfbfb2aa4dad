#include "io/atomic_file.h"

#include <sys/stat.h>

#include "tests/io/test_files.h"

namespace tamias {
namespace {

using testing::ExpectError;
using testing::ReadBytes;
using testing::TemporaryFolder;

TEST(AtomicFile, AppearsOnlyWhenCommitted) {
  const TemporaryFolder folder;
  testing::WriteBytes(folder / "a.txt", "old");
  AtomicFile file(folder / "a.txt");
  file.Write("new ");
  EXPECT_EQ(ReadBytes(folder / "a.txt"), "old");
  file.Write("text");
  file.Commit();
  EXPECT_EQ(ReadBytes(folder / "a.txt"), "new text");
  EXPECT_EQ(folder.NumFiles(), 1u);
}

TEST(AtomicFile, LeavesNothingWithoutCommit) {
  const TemporaryFolder folder;
  {
    AtomicFile file(folder / "a.txt");
    file.Write("text");
    EXPECT_EQ(folder.NumFiles(), 1u);  // the temporary name, in the same folder
  }
  EXPECT_EQ(folder.NumFiles(), 0u);
}

TEST(AtomicFile, HasTheModeOfAnOrdinaryFile) {
  const TemporaryFolder folder;
  testing::WriteBytes(folder / "plain", "");
  WriteFileAtomically(folder / "atomic", "text");
  EXPECT_EQ(std::filesystem::status(folder / "plain").permissions(),
            std::filesystem::status(folder / "atomic").permissions());
}

TEST(AtomicFile, ReplacesTheTargetOfALink) {
  const TemporaryFolder folder;
  testing::WriteBytes(folder / "target", "old");
  std::filesystem::create_symlink(folder / "target", folder / "link");
  WriteFileAtomically(folder / "link", "new");
  EXPECT_TRUE(std::filesystem::is_symlink(folder / "link"));
  EXPECT_EQ(ReadBytes(folder / "target"), "new");
}

TEST(AtomicFile, NamesPathAndReason) {
  const TemporaryFolder folder;
  testing::WriteBytes(folder / "file", "");
  ExpectError(ErrorCode::kIo, "none/a.txt: cannot create: No such file or directory",
              [&] { WriteFileAtomically(folder / "none/a.txt", "text"); });
  ExpectError(ErrorCode::kIo, "file/a.txt: cannot create: Not a directory",
              [&] { WriteFileAtomically(folder / "file/a.txt", "text"); });
  ExpectError(ErrorCode::kIo, "cannot create: Is a directory",
              [&] { WriteFileAtomically(folder.path(), "text"); });
  ExpectError(ErrorCode::kIo, "cannot create: File name too long",
              [&] { WriteFileAtomically(folder / std::string(300, 'a'), "text"); });
}

TEST(AtomicFile, WritesDevicesDirectlyAndReportsAFullDisk) {
  ASSERT_TRUE(std::filesystem::is_character_file("/dev/full"));
  ExpectError(ErrorCode::kIo, "/dev/full: cannot write: No space left on device",
              [] { WriteFileAtomically("/dev/full", "text"); });
  EXPECT_TRUE(std::filesystem::is_character_file("/dev/full"));
  WriteFileAtomically("/dev/null", "text");
  EXPECT_TRUE(std::filesystem::is_character_file("/dev/null"));
}

}  // namespace
}  // namespace tamias
