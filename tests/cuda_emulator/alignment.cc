// Misaligned accesses of kernels. The compiler checks each access against its type's alignment
// (-fsanitize=alignment, tests/cuda_tests.cmake) and calls the function below when one is off; it
// stands in for the sanitizer's own, which would only print. The layout of its argument is that of
// the ABI of gcc's and clang's undefined-behaviour sanitizer.
#include <cstdint>
#include <string>

#include "base/check.h"
#include "tests/cuda_emulator/block.h"

namespace {

struct Place {
  const char* file;
  uint32_t line, column;
};

struct Mismatch {
  Place place;
  const void* type;
  unsigned char log_alignment;
  unsigned char kind;
};

const char* NameOf(unsigned char kind) { return kind == 0 ? "load" : kind == 1 ? "store" : "use"; }

}  // namespace

extern "C" void __ubsan_handle_type_mismatch_v1(const Mismatch* mismatch, uintptr_t address) {
  const std::string file = mismatch->place.file == nullptr ? "" : mismatch->place.file;
  tamias::cuda_emulator::FailInKernel(
      fmt::format("{}:{}: misaligned {}: address {:#x} is not a multiple of {}",
                  file.substr(file.find_last_of('/') + 1), mismatch->place.line,
                  NameOf(mismatch->kind), address, 1u << mismatch->log_alignment));
}
