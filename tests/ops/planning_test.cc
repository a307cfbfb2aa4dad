// Every operation with a planning context: it takes from the workspace what it takes when it runs,
// on the CPU to the byte, and needs no GPU to plan for one.
#include <gtest/gtest.h>

#include <deque>
#include <filesystem>
#include <functional>
#include <set>
#include <string>
#include <vector>

#include "ops/attention_rest.h"
#include "ops/biased_attention.h"
#include "ops/block_mean.h"
#include "ops/column_sparse_attention.h"
#include "ops/column_sparse_mlp.h"
#include "ops/conv2d.h"
#include "ops/conv3d.h"
#include "ops/copy.h"
#include "ops/copy_indices.h"
#include "ops/copy_values.h"
#include "ops/dequantise.h"
#include "ops/distance.h"
#include "ops/elementwise.h"
#include "ops/embedding.h"
#include "ops/enqueued_distance.h"
#include "ops/linear.h"
#include "ops/mask.h"
#include "ops/norm.h"
#include "ops/quantise_rows.h"
#include "ops/residual.h"
#include "ops/rotary.h"
#include "ops/top_k.h"
#include "ops/transpose.h"
#include "ops/upsample_conv2d.h"
#include "ops/upsample_conv3d.h"

namespace tamias {
namespace {

// Operands of a call: zeros on the host, or without memory for a planning context.
class Operands {
 public:
  Operands(Context& context, DType weight) : context_(context), weight_(weight) {}

  TensorView On(Device device, const Shape& shape, DType dtype) {
    if (context_.IsPlanning()) return TensorView::WithoutMemory(shape, dtype, device);
    tensors_.push_back(Tensor::Zeros(shape, dtype));
    return tensors_.back();
  }
  TensorView Of(DType dtype, const Shape& shape) { return On(context_.device(), shape, dtype); }
  TensorView Activations(const Shape& shape) { return Of(context_.activation_dtype(), shape); }
  TensorView Floats(const Shape& shape) { return Of(DType::kF32, shape); }
  TensorView Weights(const Shape& shape) { return Of(weight_, shape); }
  ConstTensorView Float8Weights(const Shape& shape) {
    return Of(DType::kF8E4M3, shape).WithRowScales(Floats({shape[0]}).data<float>());
  }
  TensorView Codes(const Shape& shape) { return Of(DType::kF8E4M3, shape); }
  TensorView List(const Shape& shape) { return Of(DType::kI32, shape); }
  TensorView Bytes(const Shape& shape) { return Of(DType::kU8, shape); }

 private:
  Context& context_;
  DType weight_;
  std::deque<Tensor> tensors_;
};

// n: a size that the shapes grow with, a multiple of 8.
using Call = std::function<void(Context&, Operands&, int64_t n)>;

struct Case {
  std::string header, name;
  Call call;
  bool on_gpu_only = false;
};

AttentionInputs Heads(Operands& o, int64_t n) {
  return {.query = o.Activations({1, 2, n + 3, 64}),
          .key = o.Activations({1, 2, 2 * n, 64}),
          .value = o.Activations({1, 2, 2 * n, 64}),
          .scale = 0.125f};
}

MlpWeights Mlp(Operands& o, int64_t n, bool gated) {
  return {.fc1_weight = o.Weights({gated ? 2 * n : n, 32}),
          .fc1_bias = o.Weights({gated ? 2 * n : n}),
          .fc2_weight = {},
          .fc2_weight_transposed = o.Activations({n, 32}),
          .fc2_bias = {},
          .gated = gated};
}

NeuronSelection Neurons(Operands& o, int64_t n) {
  return {.indices = o.List({2, 3, n}), .counts = o.List({2, 3}), .group_size = 16};
}

std::vector<Case> AttentionCases() {
  return {
      {"attention", "DenseAttention",
       [](Context& c, Operands& o, int64_t n) {
         DenseAttention(c, Heads(o, n), o.Activations({1, 2, n + 3, 64}), o.Floats({1, 2, n + 3}));
       }},
      {"attention", "DenseAttentionColumnSums",
       [](Context& c, Operands& o, int64_t n) {
         DenseAttentionColumnSums(c, Heads(o, n), o.Floats({1, 2, n + 3}), n,
                                  o.Activations({1, 2, n + 3, 64}), o.Floats({1, 2, n + 3}),
                                  o.Floats({1, 2, 2, 2 * n}));
       }},
      {"attention_rest", "AttentionRest",
       [](Context& c, Operands& o, int64_t n) {
         AttentionRest(c,
                       {.output = o.Activations({1, 2, n, 64}),
                        .log_sum_exp = o.Floats({1, 2, n}),
                        .selected_log_sum_exp = o.Floats({1, 2, n})},
                       o.Activations({1, 2, n, 64}), o.Floats({1, 2, n}));
       }},
      {"biased_attention", "BiasedAttention",
       [](Context& c, Operands& o, int64_t n) {
         BiasedAttention(c,
                         {.query = o.Activations({2, 3, n + 1, 24}),
                          .key = o.Activations({2, 3, 30'000, 24}),
                          .value = o.Activations({2, 3, 30'000, 24}),
                          .bias = o.Activations({3, n + 1, 30'000})},
                         o.Activations({2, 3, n + 1, 24}));
       }},
      {"biased_attention", "CausalAttention",
       [](Context& c, Operands& o, int64_t n) {
         BiasedAttention(c,
                         {.query = o.Activations({1, 2, n, 64}),
                          .key = o.Activations({1, 2, n, 64}),
                          .value = o.Activations({1, 2, n, 64}),
                          .causal = true},
                         o.Activations({1, 2, n, 64}));
       }},
      {"column_sparse_attention", "ColumnSparseAttention",
       [](Context& c, Operands& o, int64_t n) {
         ColumnSparseAttention(c, Heads(o, n),
                               {.indices = o.List({1, 2, 2, 7}),
                                .counts = o.List({1, 2, 2}),
                                .group_size = n,
                                .order = o.List({1, 2, 2})},
                               {.base = o.Activations({1, 2, n + 3, 64}),
                                .base_log_sum_exp = o.Floats({1, 2, n + 3})},
                               o.Activations({1, 2, n + 3, 64}), o.Floats({1, 2, n + 3}));
       }},
      {"column_sparse_attention", "LongestFirstOrder",
       [](Context& c, Operands& o, int64_t n) {
         LongestFirstOrder(c, o.List({1, 2, n}), o.List({1, 2, n}));
       },
       /*on_gpu_only=*/true},
      {"rotary", "RmsNormRotary",
       [](Context& c, Operands& o, int64_t n) {
         RmsNormRotary(c, o.Activations({1, 2, n, 64}), o.Weights({64}), 1e-6f, o.Floats({n, 64}),
                       o.Floats({n, 64}), o.Activations({1, 2, n, 64}));
       }},
      {"rotary", "RmsNormRotaryOfTwo",
       [](Context& c, Operands& o, int64_t n) {
         const auto rows = [&](int64_t tokens) {
           return HeadRows{o.Activations({1, 2, tokens, 64}),
                           o.Weights({64}),
                           {},
                           {},
                           o.Activations({1, 2, tokens, 64})};
         };
         const HeadRows parts[] = {rows(n), rows(2 * n)};
         RmsNormRotary(c, parts, 1e-6f);
       }},
  };
}

std::vector<Case> MlpCases() {
  std::vector<Case> cases = {
      {"column_sparse_mlp", "StoreActivations", [](Context& c, Operands& o, int64_t n) {
         StoreActivations(c, o.Activations({2, 40, n}), o.Activations({2, 3, n, 16}));
       }}};
  for (const bool gated : {false, true}) {
    const std::string gate = gated ? "Gated" : "";
    cases.push_back({"column_sparse_mlp", gate + "ColumnSparseMlpUp",
                     [gated](Context& c, Operands& o, int64_t n) {
                       ColumnSparseMlpUp(c, o.Activations({2, 40, 32}), Mlp(o, n, gated),
                                         Neurons(o, n), o.Activations({2, 3, n, 16}),
                                         o.Activations({2, 3, n, 16}));
                     }});
    cases.push_back({"column_sparse_mlp", gate + "ColumnSparseMlpDown",
                     [gated](Context& c, Operands& o, int64_t n) {
                       ColumnSparseMlpDown(c, o.Activations({2, 3, n, 16}), Mlp(o, n, gated),
                                           Neurons(o, n), o.Activations({2, 40, 32}));
                     }});
    cases.push_back({"column_sparse_mlp", gate + "ColumnSparseMlp",
                     [gated](Context& c, Operands& o, int64_t n) {
                       ColumnSparseMlp(c, o.Activations({2, 40, 32}), Mlp(o, n, gated),
                                       Neurons(o, n), o.Activations({2, 3, n, 16}),
                                       o.Activations({2, 40, 32}));
                     }});
    cases.push_back({"column_sparse_mlp", gate + "ColumnSparseMlpInFloat8",
                     [gated](Context& c, Operands& o, int64_t n) {
                       MlpWeights weights = Mlp(o, n, gated);
                       weights.is_fp8 = true;
                       ColumnSparseMlp(c, o.Activations({2, 40, 32}), weights, Neurons(o, n),
                                       o.Activations({2, 3, n, 16}), o.Activations({2, 40, 32}));
                     }});
  }
  return cases;
}

std::vector<Case> DenseLayerCases() {
  std::vector<Case> cases;
  for (const int64_t rows : {1, 8, 9, 200}) {
    for (const Activation activation : {Activation::kNone, Activation::kSilu}) {
      cases.push_back({"linear",
                       "LinearOf" + std::to_string(rows) + "Rows" +
                           (activation == Activation::kNone ? "" : "AndSilu"),
                       [=](Context& c, Operands& o, int64_t n) {
                         Linear(c, o.Activations({rows, 4 * n}), o.Weights({3 * n, 4 * n}),
                                o.Weights({3 * n}), o.Activations({rows, 3 * n}),
                                {.activation = activation});
                       }});
    }
  }
  cases.push_back({"linear", "LinearOfOtherTypes", [](Context& c, Operands& o, int64_t n) {
                     Linear(c, o.Floats({2, n, 2 * n}), o.Weights({n, 2 * n}), o.Floats({n}),
                            o.Activations({2, n, n}));
                   }});
  for (const int64_t rows : {1, 40}) {
    cases.push_back({"linear", "LinearOfFloat8WeightsAnd" + std::to_string(rows) + "Rows",
                     [=](Context& c, Operands& o, int64_t n) {
                       Linear(c, o.Activations({rows, 2 * n}), o.Float8Weights({n, 2 * n}), {},
                              o.Activations({rows, n}));
                     }});
  }
  cases.push_back({"linear", "LinearOfRowsApart", [](Context& c, Operands& o, int64_t n) {
                     const TensorView all = o.Activations({3, n + 8, n});
                     Linear(c, all.Slice(1, 0, n), o.Weights({n, n}), {}, o.Activations({3, n, n}));
                   }});
  return cases;
}

std::vector<Case> ConvolutionCases() {
  std::vector<Case> cases;
  for (const bool scales : {false, true}) {
    const std::string name = scales ? "Scaled" : "";
    cases.push_back({"conv2d", name + "Conv2d", [scales](Context& c, Operands& o, int64_t n) {
                       Conv2dOptions options{.padding = {1, 1, 1, 1}};
                       if (scales) {
                         options.input_gain = o.Floats({2, 24});
                         options.input_offset = o.Floats({2, 24});
                       }
                       Conv2d(c, o.Activations({2, n, 4 * n, 24}), o.Weights({16, 24, 3, 3}),
                              o.Weights({16}), options, o.Activations({2, n, 4 * n, 16}));
                     }});
    for (const PaddingMode mode : {PaddingMode::kZeros, PaddingMode::kReplicate}) {
      const std::string padded = mode == PaddingMode::kZeros ? "Zeros" : "Replicate";
      cases.push_back(
          {"conv3d", name + "Conv3dOf" + padded, [=](Context& c, Operands& o, int64_t n) {
             Conv3dOptions options{.padding = {2, 0, 1, 1, 1, 1, mode}};
             if (scales) {
               options.input_gain = o.Floats({1, 3, 8});
               options.input_offset = o.Floats({1, 3, 8});
             }
             Conv3d(c, o.Activations({1, 3, n, 4 * n, 8}), o.Weights({16, 8, 3, 3, 3}),
                    o.Weights({16}), options, o.Activations({1, 3, n, 4 * n, 16}));
           }});
    }
  }
  cases.push_back({"conv3d", "Conv3dWithoutPadding", [](Context& c, Operands& o, int64_t n) {
                     Conv3d(c, o.Activations({1, 4, n, n, 8}), o.Weights({16, 8, 3, 1, 1}), {}, {},
                            o.Activations({1, 2, n, n, 16}));
                   }});
  cases.push_back({"upsample_conv2d", "UpsampleConv2d", [](Context& c, Operands& o, int64_t n) {
                     UpsampleConv2d(c, o.Activations({2, n, 2 * n, 16}), o.Weights({8, 16, 3, 3}),
                                    o.Weights({8}), o.Activations({2, 2 * n, 4 * n, 8}));
                   }});
  for (const bool doubles : {false, true}) {
    cases.push_back({"upsample_conv3d", doubles ? "UpsampleConv3dOfFramesToo" : "UpsampleConv3d",
                     [doubles](Context& c, Operands& o, int64_t n) {
                       UpsampleConv3d(
                           c, o.Activations({1, 3, n, n, 16}), o.Weights({8, 16, 3, 3, 3}), {},
                           {.doubles_frames = doubles, .padding = PaddingMode::kReplicate},
                           o.Activations({1, UpsampledFrames(3, doubles), 2 * n, 2 * n, 8}));
                     }});
  }
  return cases;
}

std::vector<Case> NormCases() {
  return {
      {"norm", "LayerNorm",
       [](Context& c, Operands& o, int64_t n) {
         LayerNorm(c, o.Activations({2, 3, n}), o.Weights({n}), {}, 1e-6f,
                   o.Activations({2, 3, n}));
       }},
      {"norm", "LayerNormModulate",
       [](Context& c, Operands& o, int64_t n) {
         LayerNormModulate(c, o.Activations({2, 3, n}), o.Floats({2, n}), o.Floats({2, n}), 1e-6f,
                           o.Activations({2, 3, n}));
       }},
      {"norm", "RmsNorm",
       [](Context& c, Operands& o, int64_t n) {
         RmsNorm(c, o.Activations({2, 3, n}), o.Weights({n}), 1e-6f, o.Activations({2, 3, n}));
       }},
      {"norm", "GroupNorm",
       [](Context& c, Operands& o, int64_t n) {
         GroupNorm(c, o.Activations({2, n, n, 24}), 4, o.Weights({24}), o.Weights({24}), 1e-6f,
                   true, o.Activations({2, n, n, 24}));
       }},
      {"norm", "GroupNormStatistics",
       [](Context& c, Operands& o, int64_t n) {
         GroupNormStatistics(c, o.Activations({2, n, n, 24}), 4, o.Weights({24}), {}, 1e-6f,
                             o.Floats({2, 24}), o.Floats({2, 24}));
       }},
      {"norm", "ScaleShiftChannels",
       [](Context& c, Operands& o, int64_t n) {
         ScaleShiftChannels(c, o.Activations({2, n, n, 24}), o.Floats({2, 24}), o.Floats({2, 24}),
                            false, o.Activations({2, n, n, 24}));
       }},
  };
}

std::vector<Case> ElementwiseCases() {
  return {
      {"activation", "Activate",
       [](Context& c, Operands& o, int64_t n) {
         Activate(c, Activation::kGeluErf, o.Activations({3, n}));
       }},
      {"block_mean", "BlockMean",
       [](Context& c, Operands& o, int64_t n) {
         BlockMean(c, o.Activations({2, 11, n}), 4, o.Activations({2, 3, n}));
       }},
      {"copy", "Copy",
       [](Context& c, Operands& o, int64_t n) {
         Copy(c, o.Floats({n, 3}).Permute({1, 0}), o.Floats({3, n}));
       }},
      {"distance", "MeasureDistance",
       [](Context& c, Operands& o, int64_t n) {
         const Distance distance = MeasureDistance(c, o.Activations({5, n}), o.Floats({5, n}));
         EXPECT_EQ(distance.absolute, 0);
       }},
      {"elementwise", "Add",
       [](Context& c, Operands& o, int64_t n) {
         Add(c, o.Floats({3, n}), o.Activations({3, n}), o.Floats({3, n}));
       }},
      {"elementwise", "Axpy",
       [](Context& c, Operands& o, int64_t n) { Axpy(c, 2, o.Floats({n}), o.Floats({n})); }},
      {"elementwise", "ScaleShift",
       [](Context& c, Operands& o, int64_t n) {
         ScaleShift(c, o.Floats({n}), 2, 1, o.Floats({n}));
       }},
      {"elementwise", "Multiply",
       [](Context& c, Operands& o, int64_t n) {
         Multiply(c, o.Floats({3, n}), o.Floats({3, n}), o.Floats({3, n}));
       }},
      {"elementwise", "AbsoluteDifference",
       [](Context& c, Operands& o, int64_t n) {
         AbsoluteDifference(c, o.Floats({3, n}), o.Floats({3, n}), o.Floats({3, n}));
       }},
      {"elementwise", "Convert",
       [](Context& c, Operands& o, int64_t n) {
         Convert(c, o.Weights({3, n}), o.Activations({3, n}));
       }},
      {"embedding", "Embedding",
       [](Context& c, Operands& o, int64_t n) {
         Embedding(c, o.Weights({10, n}), o.On({}, {4, 7}, DType::kI32), o.Activations({4, 7, n}));
       }},
      {"enqueued_distance", "EnqueueDistance",
       [](Context& c, Operands& o, int64_t n) {
         EnqueueDistance(c, o.Activations({3, n}), o.Activations({3, n}));
       },
       /*on_gpu_only=*/true},
      {"copy_values", "CopyValues",
       [](Context& c, Operands& o, int64_t n) {
         CopyValues(c, std::vector<float>(static_cast<size_t>(n)), o.Floats({n}));
       }},
      {"residual", "ResidualWithoutNorm",
       [](Context& c, Operands& o, int64_t n) {
         const ResidualRows rows{
             o.Floats({2, 3, n}), o.Floats({2, n}), o.Activations({2, 3, n}), {}, {}, {}};
         ResidualNorm(c, {&rows, 1}, {});
       }},
      {"residual", "ResidualNorm",
       [](Context& c, Operands& o, int64_t n) {
         const ResidualRows streams[] = {{.x = o.Floats({2, 3, n}),
                                          .gate = o.Floats({2, n}),
                                          .branch = o.Activations({2, 3, n}),
                                          .gain = o.Floats({2, n}),
                                          .offset = o.Floats({2, n}),
                                          .output = o.Activations({2, 3, n})},
                                         {.x = o.Floats({2, 1, n}),
                                          .gate = {},
                                          .branch = {},
                                          .gain = o.Floats({2, n}),
                                          .offset = {},
                                          .output = o.Activations({2, 1, n})}};
         ResidualNorm(c, streams, {.is_modulation = true});
       }},
      {"residual", "ResidualNormOfABranch",
       [](Context& c, Operands& o, int64_t n) {
         const ResidualRows rows = {.x = o.Floats({2, 3, n}),
                                    .gate = o.Floats({2, n}),
                                    .branch = o.Activations({2, 3, n}),
                                    .gain = o.Weights({n}),
                                    .offset = {},
                                    .output = o.Activations({2, 3, n})};
         ResidualNorm(c, {&rows, 1}, {.norm = NormKind::kRms, .norms_branch = true});
       }},
      {"dequantise", "Dequantise",
       [](Context& c, Operands& o, int64_t n) {
         Dequantise(c, o.Float8Weights({3, n}), o.Activations({3, n}));
       }},
      {"quantise_rows", "QuantiseRows",
       [](Context& c, Operands& o, int64_t n) {
         QuantiseRows(c, o.Activations({2, 3, n}), o.Codes({2, 3, n}), o.Floats({2, 3}));
       }},
      {"transpose", "Transpose",
       [](Context& c, Operands& o, int64_t n) {
         Transpose(c, o.Weights({3, n}), o.Activations({n, 3}));
       }},
  };
}

std::vector<Case> SelectionCases() {
  return {
      {"copy_indices", "CopyIndices",
       [](Context& c, Operands& o, int64_t n) {
         CopyIndices(c, o.Activations({3, n}), o.List({3, 5}), o.List({3}), o.Activations({3, n}));
       }},
      {"mask", "RandomMask",
       [](Context& c, Operands& o, int64_t n) {
         RandomMask(c, 0.5, 1, o.Bytes({3, n}), 8 * n);
       }},
      {"mask", "MaskToIndices",
       [](Context& c, Operands& o, int64_t n) {
         MaskToIndices(c, o.Bytes({3, n}), 8 * n, o.List({3, 5}), o.List({3}));
       }},
      {"mask", "CountMask",
       [](Context& c, Operands& o, int64_t n) {
         CountMask(c, o.Bytes({3, n}), o.List({3}));
       }},
      {"mask", "OrMask",
       [](Context& c, Operands& o, int64_t n) {
         OrMask(c, o.Bytes({1, n}), 4, o.Bytes({3, n}));
       }},
      {"top_k", "TopKMask",
       [](Context& c, Operands& o, int64_t n) {
         TopKMask(c, o.Floats({3, 8 * n}), n, o.Bytes({3, n}));
       }},
      {"top_k", "ApproximateTopKMask",
       [](Context& c, Operands& o, int64_t n) {
         ApproximateTopKMask(c, o.Floats({3, 8 * n}), n, 50, 1, o.Bytes({3, n}));
       }},
  };
}

std::vector<Case> AllCases() {
  std::vector<Case> all;
  for (const auto& cases : {AttentionCases(), MlpCases(), DenseLayerCases(), ConvolutionCases(),
                            NormCases(), ElementwiseCases(), SelectionCases()}) {
    all.insert(all.end(), cases.begin(), cases.end());
  }
  return all;
}

size_t PeakOf(Context& context, DType weight, const Call& call, int64_t n) {
  Operands operands(context, weight);
  call(context, operands, n);
  return context.workspace().peak_bytes();
}

std::vector<Case> CasesOfTheCpu() {
  std::vector<Case> cases = AllCases();
  std::erase_if(cases, [](const Case& c) { return c.on_gpu_only; });
  return cases;
}

void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

std::string NameOf(const ::testing::TestParamInfo<Case>& test) { return test.param.name; }

class Planning : public ::testing::TestWithParam<Case> {};
class PlanningOnCpu : public Planning {};

TEST_P(PlanningOnCpu, TakesWhatTheCallTakes) {
  for (const int64_t n : {8, 16, 104}) {
    for (const int threads : {1, 2}) {
      for (const DType weight : {DType::kF32, DType::kBF16}) {
        for (const DType activations : {DType::kF32, DType::kBF16}) {
          const Placement placement = {.device = {}, .activation_dtype = activations};
          Context real(placement, threads), planned = Context::Planning(placement, threads);
          EXPECT_EQ(PeakOf(planned, weight, GetParam().call, n),
                    PeakOf(real, weight, GetParam().call, n))
              << "n " << n << ", " << threads << " threads, " << Name(weight) << " weights, "
              << Name(activations) << " activations";
        }
      }
    }
  }
}

TEST_P(Planning, ForAGpuNeedsNone) {
  for (const int64_t n : {8, 104}) {
    Context planned = Context::Planning({{DeviceType::kCuda, 0}, DType::kBF16}, 1);
    EXPECT_NO_THROW(PeakOf(planned, DType::kBF16, GetParam().call, n)) << n;
  }
}

INSTANTIATE_TEST_SUITE_P(Operations, Planning, ::testing::ValuesIn(AllCases()), NameOf);
INSTANTIATE_TEST_SUITE_P(Operations, PlanningOnCpu, ::testing::ValuesIn(CasesOfTheCpu()), NameOf);

TEST(PlanningCases, CoverEveryOperation) {
  std::set<std::string> covered = {"check_tensor", "dispatch"};  // headers without an operation
  for (const Case& c : AllCases()) covered.insert(c.header);
  for (const auto& entry : std::filesystem::directory_iterator(TAMIAS_SOURCE_DIR "/src/ops")) {
    if (entry.path().extension() != ".h") continue;
    EXPECT_TRUE(covered.contains(entry.path().stem().string())) << entry.path();
  }
}

}  // namespace
}  // namespace tamias
