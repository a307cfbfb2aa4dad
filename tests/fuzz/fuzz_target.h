// One definition of a fuzz target for two programs: libFuzzer's (TAMIAS_LIBFUZZER, clang), and the
// unit test that replays the committed corpora with any compiler.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <span>
#include <string>
#include <string_view>

#include "tamias/error.h"

namespace tamias::fuzz {

using Bytes = std::span<const uint8_t>;
using Target = void (*)(Bytes);

inline std::string_view AsText(Bytes bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// Ends the program when something that must hold does not.
inline void Require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "fuzz: does not hold: %s\n", what);
  std::abort();
}

// Runs what may refuse its input as a broken file, in one line, and may fail in no other way.
template <typename Body>
void ExpectOnlyErrors(const Body& body) {
  try {
    body();
  } catch (const Error& error) {
    Require(error.code() == ErrorCode::kInvalidFile, "a broken file is kInvalidFile");
    Require(std::string_view(error.what()).find('\n') == std::string_view::npos,
            "messages are one line");
  }
}

// The targets of this program by name, which is also the name of the corpus folder.
inline std::map<std::string, Target>& Targets() {
  static std::map<std::string, Target> targets;
  return targets;
}

}  // namespace tamias::fuzz

#ifdef TAMIAS_LIBFUZZER
#define TAMIAS_FUZZ_TARGET(name)                                            \
  static void Fuzz_##name(::tamias::fuzz::Bytes);                           \
  extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) { \
    Fuzz_##name({data, size});                                              \
    return 0;                                                               \
  }                                                                         \
  static void Fuzz_##name
#else
#define TAMIAS_FUZZ_TARGET(name)                                    \
  static void Fuzz_##name(::tamias::fuzz::Bytes);                   \
  static const bool registered_##name =                             \
      ::tamias::fuzz::Targets().emplace(#name, Fuzz_##name).second; \
  static void Fuzz_##name
#endif
