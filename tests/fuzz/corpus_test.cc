// Runs every fuzz target over its committed corpus, so that what fuzzing once found stays fixed
// whatever the compiler.
#include <gtest/gtest.h>

#include "tests/fuzz/fuzz_target.h"
#include "tests/support/test_files.h"

namespace tamias::fuzz {
namespace {

class Corpus : public ::testing::TestWithParam<std::string> {};

TEST_P(Corpus, IsHandledWithoutACrash) {
  const auto folder = std::filesystem::path(TAMIAS_SOURCE_DIR) / "tests/fuzz/corpus" / GetParam();
  size_t count = 0;
  for (const auto& file : std::filesystem::directory_iterator(folder)) {
    SCOPED_TRACE(file.path());
    const std::string bytes = ReadBytes(file.path());
    Targets().at(GetParam())({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()});
    ++count;
  }
  EXPECT_GT(count, 0u);
}

std::vector<std::string> Names() {
  std::vector<std::string> names;
  for (const auto& [name, target] : Targets()) names.push_back(name);
  return names;
}

// Parameters are asked for after all targets have registered, when the program has started.
INSTANTIATE_TEST_SUITE_P(Fuzz, Corpus, ::testing::ValuesIn(Names()),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace tamias::fuzz
