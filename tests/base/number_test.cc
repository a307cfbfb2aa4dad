#include "base/number.h"

#include <gtest/gtest.h>

#include <clocale>
#include <cstdint>
#include <limits>
#include <string>

#include "tests/support/errors.h"

namespace tamias {
namespace {

TEST(ParseNumber, ReadsDecimalDigits) {
  EXPECT_EQ(ParseNumber<int>("0"), 0);
  EXPECT_EQ(ParseNumber<int>("010"), 10);
  EXPECT_EQ(ParseNumber<int>("-7"), -7);
  EXPECT_EQ(ParseNumber<int64_t>("-9223372036854775808"), std::numeric_limits<int64_t>::min());
  EXPECT_EQ(ParseNumber<uint64_t>("18446744073709551615"), std::numeric_limits<uint64_t>::max());
  EXPECT_EQ(ParseNumber<double>("3.5"), 3.5);
  EXPECT_EQ(ParseNumber<double>("-2"), -2);
  EXPECT_EQ(ParseNumber<double>("1e3"), 1000);
  EXPECT_EQ(ParseNumber<double>(".25"), 0.25);
  EXPECT_EQ(ParseNumber<double>("007.5"), 7.5);
}

TEST(ParseNumber, RefusesEverythingElse) {
  for (const char* text : {"", " ", "+5", " 5", "5 ", "5\n", "0x10", "1e3", "1.0", "5_000", "5,000",
                           "١", "--5", "- 5", "five", "2147483648", "99999999999999999999999"}) {
    SCOPED_TRACE(text);
    EXPECT_EQ(ParseNumber<int>(text), std::nullopt);
  }
  EXPECT_EQ(ParseNumber<uint64_t>("-0"), std::nullopt);
  EXPECT_EQ(ParseNumber<uint64_t>("-1"), std::nullopt);
  EXPECT_EQ(ParseNumber<uint64_t>("18446744073709551616"), std::nullopt);
  EXPECT_EQ(ParseNumber<int64_t>("9223372036854775808"), std::nullopt);
  EXPECT_EQ(ParseNumber<int>(std::string_view("5\0", 2)), std::nullopt);
  for (const char* text : {"", "+1", " 1", "1 ", "nan", "NaN", "inf", "-inf", "infinity", "0x1p3",
                           "0x10", "1,5", "1e", "e1", ".", "-", "1e999", "1e-999", "1.5f"}) {
    SCOPED_TRACE(text);
    EXPECT_EQ(ParseNumber<double>(text), std::nullopt);
  }
}

TEST(ParseNumber, IsTheSameInEveryLocale) {
  const std::string before = std::setlocale(LC_ALL, nullptr);
  for (const char* locale : {"de_DE.UTF-8", "fr_FR.UTF-8", "C.UTF-8"}) {
    std::setlocale(LC_ALL, locale);  // those that the machine has
    EXPECT_EQ(ParseNumber<double>("1.5"), 1.5);
    EXPECT_EQ(ParseNumber<double>("1,5"), std::nullopt);
  }
  std::setlocale(LC_ALL, before.c_str());
}

TEST(NumberFrom, NamesTheOptionAndWhatItWants) {
  EXPECT_EQ(ArgumentErrorOf([] { NumberFrom<int>("--width", "wide"); }),
            "--width: expected a whole number, found 'wide'");
  EXPECT_EQ(ArgumentErrorOf([] { NumberFrom<int>("steps", ""); }),
            "steps: expected a whole number, found ''");
  EXPECT_EQ(ArgumentErrorOf([] { NumberFrom<double>("fps", "nan"); }),
            "fps: expected a number, found 'nan'");
  // The limits where they are what is at fault.
  EXPECT_EQ(ArgumentErrorOf([] { NumberFrom<uint64_t>("seed", "18446744073709551616"); }),
            "seed: expected a whole number from 0 to 18446744073709551615, found "
            "'18446744073709551616'");
  EXPECT_EQ(ArgumentErrorOf([] { NumberFrom<uint64_t>("seed", "-1"); }),
            "seed: expected a whole number from 0 to 18446744073709551615, found '-1'");
  EXPECT_EQ(ArgumentErrorOf([] { NumberFrom<int>("width", "2147483648"); }),
            "width: expected a whole number from -2147483648 to 2147483647, found '2147483648'");
  EXPECT_LT(ArgumentErrorOf([] { NumberFrom<int>("width", std::string(5000, '9')); }).size(), 200u);
}

TEST(BytesFrom, ReadsNumbersAndUnits) {
  constexpr size_t kGiB = size_t{1} << 30;
  EXPECT_EQ(BytesFrom("m", "0"), 0u);
  EXPECT_EQ(BytesFrom("m", "1000000000"), 1000000000u);
  EXPECT_EQ(BytesFrom("m", "12B"), 12u);
  for (const char* text : {"8GiB", "8gib", "8 GiB", "8G", "8GB", "8g", "8192MiB", "8388608K",
                           "0.0078125TiB", "08GiB"}) {
    SCOPED_TRACE(text);
    EXPECT_EQ(BytesFrom("m", text), 8 * kGiB);
  }
  EXPECT_EQ(BytesFrom("m", "1.5GiB"), kGiB + kGiB / 2);
}

TEST(BytesFrom, RefusesEverythingElse) {
  for (const char* text :
       {"",    "-1",  "+5",     " 5",    "5 ",   "0x10",       "1e3",
        "GiB", "8 ",  "8  GiB", "8GiBs", "8XiB", "8Gi",        "1.2.3",
        ".",   "0.5", "8EiB",   "nan",   "inf",  "8388608TiB", "99999999999999999999999"}) {
    SCOPED_TRACE(text);
    EXPECT_EQ(ArgumentErrorOf([&] { BytesFrom("max_memory", text); }),
              "max_memory: expected bytes, as in 8GiB, 500MiB or 1000000000, found '" +
                  std::string(text) + "'");
  }
}

}  // namespace
}  // namespace tamias
