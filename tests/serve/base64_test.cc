#include "tamias/base64.h"
#include "serve/base64.h"

#include <gtest/gtest.h>

#include <string>

namespace tamias::serve {
namespace {

TEST(Base64, GivesBackWhatItWrote) {
  std::string bytes;
  for (int i = 0; i < 600; ++i) {
    EXPECT_EQ(DecodeBase64(Base64(bytes)), bytes);
    bytes += static_cast<char>(i * 37);
  }
  EXPECT_EQ(Base64("\xff\xfe\xfd"), "//79");
}

TEST(Base64, RefusesWhatIsNone) {
  for (const char* text :
       {"A", "AA", "AAA", "AA=A", "A===", "AAAA=", "AA A", "AA\nA", "AA-_", "===="}) {
    EXPECT_EQ(DecodeBase64(text), std::nullopt) << text;
  }
}

}  // namespace
}  // namespace tamias::serve
