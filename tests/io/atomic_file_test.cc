#include "io/atomic_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>
#include <thread>

#include "tests/support/errors.h"
#include "tests/support/test_files.h"

namespace tamias {
namespace {

TEST(AtomicFile, AppearsOnlyWhenCommitted) {
  const TemporaryFolder folder;
  WriteBytes(folder / "a.txt", "old");
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
  }
  EXPECT_EQ(folder.NumFiles(), 0u);
  {
    AtomicFile file(folder / "a.txt", AtomicFile::Unfinished::kNamed);
    file.Write("text");
    EXPECT_EQ(folder.NumFiles(), 1u);  // the temporary name, in the same folder
  }
  EXPECT_EQ(folder.NumFiles(), 0u);
}

// As where the file system has no files without a name.
TEST(AtomicFile, WorksUnderATemporaryName) {
  const TemporaryFolder folder;
  for (const char* text : {"new", "newer"}) {
    AtomicFile file(folder / "a.txt", AtomicFile::Unfinished::kNamed);
    file.Write(text);
    file.Commit();
    EXPECT_EQ(ReadBytes(folder / "a.txt"), text);
    EXPECT_EQ(folder.NumFiles(), 1u);
  }
}

TEST(AtomicFile, TakesEveryNameThatTheFileSystemTakes) {
  const TemporaryFolder folder;
  const std::string longest(255, 'a');
  for (const auto unfinished :
       {AtomicFile::Unfinished::kNameless, AtomicFile::Unfinished::kNamed}) {
    for (const char* text : {"new", "over an older one"}) {
      AtomicFile file(folder / longest, unfinished);
      file.Write(text);
      file.Commit();
      EXPECT_EQ(ReadBytes(folder / longest), text);
      EXPECT_EQ(folder.NumFiles(), 1u);
    }
    ExpectError(ErrorCode::kIo, "cannot create: File name too long",
                [&] { AtomicFile file(folder / (longest + "a"), unfinished); });
  }
}

TEST(AtomicFile, KeepsTheModeOfTheFileThatItReplaces) {
  const TemporaryFolder folder;
  WriteFileAtomically(folder / "private", "old");
  chmod((folder / "private").c_str(), 0600);
  WriteFileAtomically(folder / "private", "new");
  EXPECT_EQ(std::filesystem::status(folder / "private").permissions(),
            std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
}

// What a rename would allow, since only the folder has to be writable for it.
TEST(AtomicFile, RefusesAFileThatThisUserMayNotWrite) {
  const TemporaryFolder folder;
  chmod(folder.path().c_str(), 0777);
  WriteFileAtomically(folder / "mine", "old");
  chmod((folder / "mine").c_str(), 0444);
  const uid_t user = geteuid();
  constexpr uid_t kNobody = 65534;
  if (user == 0) {  // who may write everything
    ASSERT_EQ(seteuid(kNobody), 0);
  }
  ExpectError(ErrorCode::kIo, "mine: cannot create: Permission denied",
              [&] { WriteFileAtomically(folder / "mine", "new"); });
  if (user == 0) {
    ASSERT_EQ(seteuid(user), 0);
  }
  EXPECT_EQ(ReadBytes(folder / "mine"), "old");
}

TEST(AtomicFile, HasTheModeOfAnOrdinaryFile) {
  const TemporaryFolder folder;
  WriteBytes(folder / "plain", "");
  WriteFileAtomically(folder / "atomic", "text");
  EXPECT_EQ(std::filesystem::status(folder / "plain").permissions(),
            std::filesystem::status(folder / "atomic").permissions());
}

TEST(AtomicFile, ReplacesTheTargetOfALink) {
  const TemporaryFolder folder;
  WriteBytes(folder / "target", "old");
  std::filesystem::create_symlink(folder / "target", folder / "link");
  WriteFileAtomically(folder / "link", "new");
  EXPECT_TRUE(std::filesystem::is_symlink(folder / "link"));
  EXPECT_EQ(ReadBytes(folder / "target"), "new");
}

TEST(AtomicFile, WritesThroughLinksThatLeadToNothingYet) {
  const TemporaryFolder folder;
  std::filesystem::create_directory(folder / "there");
  std::filesystem::create_symlink("there/target", folder / "middle");
  std::filesystem::create_symlink(folder / "middle", folder / "link");
  WriteFileAtomically(folder / "link", "new");
  EXPECT_TRUE(std::filesystem::is_symlink(folder / "link"));
  EXPECT_TRUE(std::filesystem::is_symlink(folder / "middle"));
  EXPECT_EQ(ReadBytes(folder / "there/target"), "new");
  std::filesystem::create_symlink("none/target", folder / "lost");
  ExpectError(ErrorCode::kIo, "lost: cannot create: No such file or directory",
              [&] { CheckCanWrite(folder / "lost"); });
  std::filesystem::create_symlink("circle", folder / "circle");
  ExpectError(ErrorCode::kIo, "circle: cannot create: Too many levels of symbolic links",
              [&] { CheckCanWrite(folder / "circle"); });
}

TEST(AtomicFile, ChecksAPipeWithoutOpeningIt) {
  const TemporaryFolder folder;
  ASSERT_EQ(mkfifo((folder / "pipe").c_str(), 0600), 0);
  CheckCanWrite(folder / "pipe");  // opening it would wait for a reader
  EXPECT_TRUE(IsWrittenDirectly(folder / "pipe"));
  std::string read;
  std::thread reader([&] { read = ReadBytes(folder / "pipe"); });
  WriteFileAtomically(folder / "pipe", "text");
  reader.join();
  EXPECT_EQ(read, "text");
  EXPECT_TRUE(std::filesystem::is_fifo(folder / "pipe"));
}

TEST(AtomicFile, WritesOpenDescriptors) {
  const TemporaryFolder folder;
  const int file = open((folder / "a.txt").c_str(), O_RDWR | O_CREAT, 0600);
  ASSERT_GE(file, 0);
  ASSERT_EQ(write(file, "before ", 7), 7);
  const std::string name = "/dev/fd/" + std::to_string(file);
  EXPECT_EQ(DescriptorOf(name), file);
  CheckCanWrite(name);
  WriteFileAtomically(name, "text");
  EXPECT_EQ(ReadBytes(folder / "a.txt"), "before text");
  close(file);
  EXPECT_EQ(DescriptorOf(name), -1);
  EXPECT_EQ(DescriptorOf("/dev/stdout"), 1);
  EXPECT_EQ(DescriptorOf("/dev/fd/x"), -1);
  const int read_only = open((folder / "a.txt").c_str(), O_RDONLY);
  ExpectError(ErrorCode::kIo, "cannot create: Bad file descriptor",
              [&] { CheckCanWrite("/dev/fd/" + std::to_string(read_only)); });
  close(read_only);
}

TEST(AtomicFile, NamesPathAndReason) {
  const TemporaryFolder folder;
  WriteBytes(folder / "file", "");
  ExpectError(ErrorCode::kIo, "none/a.txt: cannot create: No such file or directory",
              [&] { WriteFileAtomically(folder / "none/a.txt", "text"); });
  ExpectError(ErrorCode::kIo, "file/a.txt: cannot create: Not a directory",
              [&] { WriteFileAtomically(folder / "file/a.txt", "text"); });
  ExpectError(ErrorCode::kIo, "cannot create: Is a directory",
              [&] { WriteFileAtomically(folder.path(), "text"); });
  ExpectError(ErrorCode::kIo, "cannot create: Is a directory",
              [&] { WriteFileAtomically(folder / "new/", "text"); });
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
