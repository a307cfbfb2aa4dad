#include "serve/api_error.h"

#include <gtest/gtest.h>

namespace tamias::serve {
namespace {

TEST(WithoutPaths, KeepsTheFilesName) {
  EXPECT_EQ(WithoutPaths("/srv/models/x/vae/config.json: field 'a': missing"),
            "config.json: field 'a': missing");
  EXPECT_EQ(WithoutPaths("cannot open '/a/b c'"), "cannot open 'b c'");
  EXPECT_EQ(WithoutPaths("/"), "");
}

TEST(WithoutPaths, LeavesOtherTextAlone) {
  for (const char* text : {"width: expected a multiple of 8, found 7", "3/4 of it", "a/b", ""}) {
    EXPECT_EQ(WithoutPaths(text), text);
  }
}

TEST(FromLibrary, TellsTheRequestsFaultsFromOurs) {
  EXPECT_EQ(FromLibrary(Error(ErrorCode::kInvalidArgument, "width: expected x")).status, 400);
  EXPECT_EQ(FromLibrary(Error(ErrorCode::kInvalidArgument, "width: expected x")).param, "width");
  EXPECT_EQ(FromLibrary(Error(ErrorCode::kOutOfMemory, "needs more")).code, "too_large");
  const ApiError ours = FromLibrary(Error(ErrorCode::kIo, "/var/x/y.png: cannot write: full"));
  EXPECT_EQ(ours.status, 500);
  EXPECT_STREQ(ours.what(), "y.png: cannot write: full");
  EXPECT_EQ(ErrorBody(ours)["error"]["param"], nullptr);
}

}  // namespace
}  // namespace tamias::serve
