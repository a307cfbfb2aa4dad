// What it costs to give back the pages of a mapped file and to read them again from the operating
// system's cache, beside reading pages that are there. Counters: seconds_per_gib.
#include "io/mapped_file.h"

#include <benchmark/benchmark.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <vector>

namespace tamias {
namespace {

constexpr size_t kBytes = size_t{1} << 30;
constexpr size_t kPage = 4096;

class File {
 public:
  File()
      : path_(std::filesystem::temp_directory_path() /
              fmt::format("tamias-mapped-file-bench-{}", getpid())) {
    const std::vector<char> piece(size_t{1} << 20, 'x');
    std::ofstream stream(path_, std::ios::binary);
    for (size_t written = 0; written < kBytes; written += piece.size()) {
      stream.write(piece.data(), static_cast<std::streamsize>(piece.size()));
    }
  }
  ~File() { std::filesystem::remove(path_); }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

// One byte of each page, on one thread.
int64_t Read(const MappedFile& file) {
  int64_t sum = 0;
  for (size_t i = 0; i < kBytes; i += kPage) sum += static_cast<int64_t>(file.bytes()[i]);
  return sum;
}

// Argument: 1 gives the pages back before they are read.
void BM_ReadMappedFile(benchmark::State& state) {
  const File on_disk;
  const MappedFile file(on_disk.path());
  Read(file);
  for (auto _ : state) {
    if (state.range(0) != 0) file.GiveBack();
    benchmark::DoNotOptimize(Read(file));
  }
  state.counters["seconds_per_gib"] = benchmark::Counter(
      1, benchmark::Counter::kIsIterationInvariantRate | benchmark::Counter::kInvert);
}
BENCHMARK(BM_ReadMappedFile)->Arg(0)->Arg(1)->UseRealTime()->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace tamias
