// Sparsity profiles: what is accepted survives being printed and read again.
#include "tamias/error.h"
#include "tamias/sparsity/config.h"
#include "tests/fuzz/fuzz_target.h"

namespace tamias::fuzz {

TAMIAS_FUZZ_TARGET(sparsity_config)(Bytes input) {
  SparsityConfig config;
  try {
    config = ParseSparsityConfig(AsText(input), "profile.yml");
  } catch (const Error&) {
    return;
  }
  const std::string text = WriteYaml(config);
  Require(WriteYaml(ParseSparsityConfig(text, "printed.yml")) == text, "profiles round-trip");
}

}  // namespace tamias::fuzz
