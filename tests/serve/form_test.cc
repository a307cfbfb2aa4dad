#include "serve/form.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "serve/api_error.h"

namespace tamias::serve {
namespace {

constexpr const char* kType = "multipart/form-data; boundary=xx";

std::string Part(const std::string& headers, const std::string& content) {
  return "--xx\r\n" + headers + "\r\n\r\n" + content + "\r\n";
}

std::string Field(const std::string& name, const std::string& content) {
  return Part("Content-Disposition: form-data; name=\"" + name + "\"", content);
}

TEST(Form, GivesPartsInTheirOrder) {
  const std::string body =
      Field("a", "1") +
      Part(
          "content-type: image/png\r\nContent-Disposition: form-data; filename=\"a;b.png\"; name=b",
          std::string("\0\r\n--x\r\n", 9)) +
      Field("c", "") + "--xx--\r\n";
  const auto parts = ReadForm(body, kType);
  ASSERT_EQ(parts.size(), 3U);
  EXPECT_EQ(parts[0].name, "a");
  EXPECT_EQ(parts[0].content, "1");
  EXPECT_EQ(parts[1].name, "b");
  EXPECT_EQ(parts[1].content, std::string_view("\0\r\n--x\r\n", 9));
  EXPECT_EQ(parts[2].content, "");
}

TEST(Form, TakesQuotedBoundariesAndNames) {
  const std::string body =
      "--a b\r\nContent-Disposition: form-data; name=\"q\\\"uoted\"\r\n\r\nx\r\n--a b--";
  const auto parts = ReadForm(body, "Multipart/Form-Data; charset=x; Boundary=\"a b\"");
  ASSERT_EQ(parts.size(), 1U);
  EXPECT_EQ(parts[0].name, "q\"uoted");
}

TEST(Form, RefusesWhatIsNone) {
  const std::string whole = Field("a", "1") + Field("b", "2") + "--xx--";
  EXPECT_EQ(ReadForm(whole, kType).size(), 2U);
  for (size_t size = 0; size < whole.size(); ++size) {
    EXPECT_THROW(ReadForm(whole.substr(0, size), kType), ApiError) << size;
  }
  for (const char* type : {"multipart/form-data", "multipart/form-data; boundary=",
                           "multipart/form-data; boundary=yy", "multipart/form-data; boundary"}) {
    EXPECT_THROW(ReadForm(whole, type), ApiError) << type;
  }
  EXPECT_THROW(ReadForm(whole, std::string(kType) + std::string(80, 'x')), ApiError);
  EXPECT_THROW(ReadForm(Part("X: y", "1") + "--xx--", kType), ApiError);
  EXPECT_THROW(ReadForm("--xx\r\n\r\n1\r\n--xx--", kType), ApiError);
  EXPECT_THROW(ReadForm(Part("X: " + std::string(5000, 'y'), "1") + "--xx--", kType), ApiError);
  std::string many;
  for (int i = 0; i < 65; ++i) many += Field("a", "1");
  EXPECT_THROW(ReadForm(many + "--xx--", kType), ApiError);
}

TEST(Form, NamesMediaTypes) {
  EXPECT_EQ(MediaType("Application/JSON; charset=utf-8"), "application/json");
  EXPECT_EQ(MediaType(" multipart/form-data ;boundary=x"), "multipart/form-data");
  EXPECT_EQ(MediaType(""), "");
}

}  // namespace
}  // namespace tamias::serve
