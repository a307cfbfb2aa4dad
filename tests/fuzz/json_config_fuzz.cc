// JSON configurations: every accessor on every field.
#include "io/json.h"
#include "tests/fuzz/fuzz_target.h"

namespace tamias::fuzz {

static void Visit(const JsonObject& object) {
  for (const std::string& key : object.Keys()) {
    ExpectOnlyErrors([&] { object.Int(key, {.min = 0, .max = 1000}); });
    ExpectOnlyErrors([&] { object.Float(key); });
    ExpectOnlyErrors([&] { object.Bool(key); });
    ExpectOnlyErrors([&] { object.StringOr(key, ""); });
    ExpectOnlyErrors([&] { object.IntArray(key); });
    ExpectOnlyErrors([&] { object.FloatArray(key); });
    ExpectOnlyErrors([&] { object.StringArray(key); });
    ExpectOnlyErrors([&] { Visit(object.Object(key)); });
    ExpectOnlyErrors([&] {
      for (const JsonObject& element : object.ObjectArray(key)) Visit(element);
    });
  }
}

TAMIAS_FUZZ_TARGET(json_config)(Bytes input) {
  ExpectOnlyErrors([&] { Visit(JsonObject::Parse(AsText(input), "config.json")); });
}

}  // namespace tamias::fuzz
