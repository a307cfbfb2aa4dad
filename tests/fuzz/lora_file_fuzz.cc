// Headers of LoRA files, to which the right length and as many data bytes as the first byte says
// are added.
#include "io/lora_file.h"

#include <algorithm>

#include "tests/fuzz/fuzz_target.h"
#include "tests/fuzz/memory_file.h"

namespace tamias::fuzz {

TAMIAS_FUZZ_TARGET(lora_file)(Bytes input) {
  if (input.empty()) return;
  const MemoryFile file(SafetensorsOf(AsText(input.subspan(1)), input[0]));
  try {
    const LoraFile lora(file.path());
    Require(!lora.layers().empty(), "there are layers");
    for (const LoraLayer& layer : lora.layers()) {
      Require(layer.down.dim(0) == layer.up.dim(1) && layer.down.dim(0) > 0, "ranks are alike");
      Require(!layer.component.empty(), "a layer has a component");
    }
  } catch (const Error& error) {
    constexpr ErrorCode kExpected[] = {
        ErrorCode::kInvalidFile,
        ErrorCode::kUnsupported,  // a file of another kind
        ErrorCode::kNotFound,     // PEFT's configuration beside it
    };
    Require(std::ranges::find(kExpected, error.code()) != std::end(kExpected),
            "a broken file is an error of its own");
    Require(std::string_view(error.what()).find('\n') == std::string_view::npos,
            "messages are one line");
  }
}

}  // namespace tamias::fuzz
