#include "io/model_file.h"

#include <gtest/gtest.h>
#include <sys/types.h>
#include <unistd.h>

#include "io/mapped_file.h"
#include "tests/support/errors.h"
#include "tests/support/test_files.h"

namespace tamias {
namespace {

using namespace std::string_view_literals;

TEST(ModelFile, KnowsWhatIsFoundInTheirPlace) {
  const std::pair<std::string_view, std::string_view> known[] = {
      {"version https://git-lfs.github.com/spec/v1\noid sha256:12", "a Git LFS pointer"},
      {"version http://git-media.io/v/2\n", "a Git LFS pointer"},
      {"<!DOCTYPE html>", "an HTML page"},
      {"<!doctype HTML>", "an HTML page"},
      {"\xEF\xBB\xBF\r\n <html lang=\"en\">", "an HTML page"},
      {"<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code>", "an XML document"},
      {"\x1F\x8B\x08", "gzip data"},
      {"PK\x03\x04\x14", "a zip archive"},
      {"PK\x03\x04\0\0\x08\x08 archive/data.pkl\x80\x02"sv, "a PyTorch checkpoint (pickle)"},
      {"\x80\x02}q", "a PyTorch checkpoint (pickle)"},
      {"\x80\x05\x95", "a PyTorch checkpoint (pickle)"},
      {"GGUF\3\0\0\0"sv, "a GGUF file"},
      {"BZh91AY", "bzip2 data"},
      {"\xFD"
       "7zXZ\0"sv,
       "xz data"},
      {"\x28\xB5\x2F\xFD\x04", "zstd data"},
      {"7z\xBC\xAF\x27", "a 7z archive"},
      {"\x89HDF\r\n", "an HDF5 file"},
  };
  for (const auto& [bytes, text] : known) {
    EXPECT_TRUE(DescribeForeignContent(bytes).starts_with(text)) << text;
  }
}

TEST(ModelFile, LeavesModelFilesAlone) {
  for (const std::string_view bytes :
       {""sv, "{"sv, "{\"a\": 1}"sv, "\x80\x02\0\0\0\0\0\0{\"w\""sv, "#version: 0.2\na b\n"sv,
        "version b\n"sv, "\x0A\x0E\x0A\x05<unk>"sv, "\x80"sv, "<html"sv.substr(0, 4), "P"sv}) {
    EXPECT_EQ(DescribeForeignContent(bytes), "") << bytes;
  }
}

TEST(ModelFile, NamesLinksToNothing) {
  const TemporaryFolder folder;
  std::filesystem::create_symlink("../../blobs/0123", folder / "link");
  EXPECT_TRUE(HasEntry(folder / "link"));
  EXPECT_FALSE(HasEntry(folder / "none"));
  EXPECT_FALSE(HasEntry(folder / "none" / "none"));
  ExpectError(ErrorCode::kNotFound, "link: cannot open: a link to ../../blobs/0123, which is not",
              [&] { MappedFile file(folder / "link"); });
  ExpectError(ErrorCode::kNotFound, "link: cannot open: a link to ../../blobs/0123, which is not",
              [&] { RequireFolder(folder / "link"); });
  ExpectError(ErrorCode::kNotFound, "none: no such folder",
              [&] { RequireFolder(folder / "none"); });
  WriteBytes(folder / "file", "x");
  ExpectError(ErrorCode::kNotFound, "file: expected a folder, found a file",
              [&] { RequireFolder(folder / "file"); });
  EXPECT_NO_THROW(RequireFolder(folder.path()));
}

// Root may search every folder: it becomes another user for the test.
class WithoutPrivileges {
 public:
  WithoutPrivileges() : user_(geteuid()) {
    constexpr uid_t kNobody = 65534;
    EXPECT_EQ(seteuid(user_ == 0 ? kNobody : user_), 0);
  }
  ~WithoutPrivileges() { EXPECT_EQ(seteuid(user_), 0); }

 private:
  uid_t user_;
};

TEST(ModelFile, NamesMissingPermission) {
  const TemporaryFolder folder;
  std::filesystem::create_directory(folder / "closed");
  WriteBytes(folder / "closed" / "file", "x");
  std::filesystem::permissions(folder / "closed", std::filesystem::perms::none);
  {
    const WithoutPrivileges guard;
    ExpectError(ErrorCode::kIo, "file: cannot open: Permission denied",
                [&] { HasEntry(folder / "closed" / "file"); });
    ExpectError(ErrorCode::kIo, "Permission denied",
                [&] { MappedFile f(folder / "closed" / "file"); });
  }
  std::filesystem::permissions(folder / "closed", std::filesystem::perms::owner_all);
}

}  // namespace
}  // namespace tamias
