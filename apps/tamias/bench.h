// Shared by the parts of `tamias bench`: what a measurement is and how several are interleaved.
#pragma once

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <ranges>
#include <span>
#include <string>
#include <vector>

#include "fail.h"
#include "tamias/pipeline.h"
#include "tamias/tensor.h"

namespace tamias::cli {

struct FilmModel;

struct BenchOptions {
  std::string shape;              // by name; empty: by the flags
  std::optional<int64_t> tokens;  // not given: by name
  int64_t heads = 1;
  int64_t head_dim = 128;
  int64_t model_dim = 3072;
  std::optional<int64_t> mlp_dim;  // not given: four times model_dim
  std::vector<double> sparsities;
  std::string model;  // checkpoint folder, for `bench model`
  std::string sparsity_profile = "auto";
  std::optional<int64_t> frames;  // of a film, for the film models; not given: as published
  int threads = 0;
  int repeats = 5;
  bool json = false;
};

struct Measurement {
  std::string name;   // "column_sparse_attention 93 %"
  std::string shape;  // "B 1, H 4, N 4132, D 64"
  double seconds = 0;
  double gflops = 0;                          // useful arithmetic per second
  std::optional<double> peak_fraction;        // of the FMA peak measured in this run
  std::optional<double> speedup_over_dense;   // against our own dense in this run
  std::optional<double> arithmetic_fraction;  // that speed-up over dense flops / sparse flops
};

// options.shape, or the demo model's, among the named shapes of an operation. Throws
// kInvalidArgument naming all of them.
template <typename Shape>
Shape FindShape(const BenchOptions& options, const std::map<std::string, Shape>& named) {
  const std::string name = options.shape.empty() ? "demo-512" : options.shape;
  const auto shape = named.find(name);
  if (shape == named.end()) {
    Fail(ErrorCode::kInvalidArgument, "shape: '{}' is unknown; known: {}", name,
         fmt::join(std::views::keys(named), ", "));
  }
  return shape->second;
}

// options.sparsities; the defaults where none are given.
std::vector<double> SparsitiesOf(const BenchOptions& options, std::span<const double> defaults);

// Normal random numbers times scale, f32.
Tensor RandomTensor(const Shape& shape, uint64_t seed, float scale = 1);

// Runs every candidate once to warm up, then `repeats` rounds of all of them in turn, so that a
// drift of the machine's speed hits all alike. Returns the median seconds of each.
std::vector<double> MedianSeconds(int repeats,
                                  const std::vector<std::function<void()>>& candidates);

std::vector<Measurement> BenchAttention(const BenchOptions& options, double peak_gflops);
std::vector<Measurement> BenchMlp(const BenchOptions& options, double peak_gflops);
// Throws when BenchModel would: before other benchmarks run.
void CheckModel(const Pipeline& pipeline, const BenchOptions& options);
std::vector<Measurement> BenchModel(const Pipeline& pipeline, const BenchOptions& options);
std::vector<Measurement> BenchFilm(const FilmModel& published, const BenchOptions& options,
                                   double peak_gflops);

}  // namespace tamias::cli
