// YAML: every accessor on every node.
#include "io/yaml.h"
#include "tests/fuzz/fuzz_target.h"

namespace tamias::fuzz {

static void Visit(const YamlNode& node) {
  Require(node.line() >= 1, "lines are counted from 1");
  ExpectOnlyErrors([&] { node.Int({.min = -5}); });
  ExpectOnlyErrors([&] { node.Float({.max = 5}); });
  ExpectOnlyErrors([&] { node.Bool(); });
  ExpectOnlyErrors([&] { node.String(); });
  ExpectOnlyErrors([&] { node.IntList(); });
  ExpectOnlyErrors([&] {
    for (const auto& [name, child] : node.Entries()) Visit(child);
  });
}

TAMIAS_FUZZ_TARGET(yaml)(Bytes input) {
  ExpectOnlyErrors([&] { Visit(YamlNode::Parse(AsText(input), "config.yml")); });
}

}  // namespace tamias::fuzz
