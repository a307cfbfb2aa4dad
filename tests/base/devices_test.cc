#include "tamias/devices.h"

#include <gtest/gtest.h>

#include "tests/support/errors.h"

namespace tamias {
namespace {

TEST(Devices, AreReadAsTheyAreNamed) {
  EXPECT_EQ(ParseDevices("cpu"), Devices{Device()});
  const Devices two = {{DeviceType::kCuda, 1}, {DeviceType::kCuda, 0}};
  EXPECT_EQ(ParseDevices("cuda:1,cuda"), two);
  EXPECT_EQ(Name(two), "cuda:1,cuda:0");
}

TEST(Devices, ListsThatAreNotOfGpusEachNamedOnceAreRefused) {
  const auto error_of = [](const char* text) {
    return ArgumentErrorOf([&] { ParseDevices(text); });
  };
  EXPECT_EQ(error_of("cuda,cuda:0"),
            "device: expected each device once, found cuda:0 twice in 'cuda,cuda:0'");
  EXPECT_EQ(error_of("cuda:0,cpu"),
            "device: expected cpu alone, or GPUs as in cuda:0,cuda:1, found 'cuda:0,cpu'");
  EXPECT_EQ(error_of("cuda:0,1"), "device: expected cpu, cuda or cuda:<number>, found '1'");
  for (const char* text : {"", ",", "cuda:0,", ",cuda:0", "cuda:0, cuda:1", "cuda:0;cuda:1"}) {
    EXPECT_NE(error_of(text), "") << text;
  }
}

}  // namespace
}  // namespace tamias
