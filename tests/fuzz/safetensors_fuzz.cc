// Safetensors headers. The first byte says whether the input is a whole file, or a header to which
// the right length and as many data bytes as the second byte says are added.
#include "io/safetensors.h"

#include <numeric>

#include "tests/fuzz/fuzz_target.h"
#include "tests/fuzz/memory_file.h"

namespace tamias::fuzz {

static std::string FileFrom(Bytes input) {
  if (input.size() < 2 || input[0] % 2 == 0) return std::string(AsText(input));
  return SafetensorsOf(AsText(input.subspan(2)), input[1]);
}

TAMIAS_FUZZ_TARGET(safetensors)(Bytes input) {
  const std::string bytes = FileFrom(input);
  const MemoryFile file(bytes);
  ExpectOnlyErrors([&] {
    const SafetensorsFile tensors(file.path());
    size_t covered = 0;
    for (const auto& [name, entry] : tensors.entries()) {
      Require(entry.begin <= entry.end && entry.end <= bytes.size(), "offsets lie in the file");
      covered += entry.end - entry.begin;
      Require(tensors.BytesOf(name).size() == entry.end - entry.begin, "bytes are the entry's");
      if (entry.shape.size() > Shape::kMaxRank) continue;
      Require(tensors.ShapeOf(name).rank() == static_cast<int>(entry.shape.size()), "rank");
      if (!entry.dtype) continue;
      const ConstTensorView tensor = tensors.Get(name);
      const auto size = static_cast<size_t>(tensor.NumElements()) * SizeOf(tensor.dtype());
      Require(size == entry.end - entry.begin, "the shape takes the tensor's bytes");
      const auto* data = static_cast<const uint8_t*>(tensor.raw());
      Require(std::accumulate(data, data + size, size_t{0}) <= size * 255, "bytes can be read");
    }
    Require(covered < bytes.size(), "tensors do not overlap");
  });
}

}  // namespace tamias::fuzz
