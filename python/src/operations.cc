// The operations of tamias/ops/ on arrays. Outputs are the caller's; the package's ops.py makes
// them.
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/vector.h>

#include <mutex>
#include <string>
#include <string_view>
#include <utility>

#include "arrays.h"
#include "bindings.h"
#include "mlp_weights.h"
#include "released.h"
#include "shared_context.h"
#include "tamias/context.h"
#include "tamias/device_memory.h"
#include "tamias/ops/attention.h"
#include "tamias/ops/block_mean.h"
#include "tamias/ops/column_sparse_attention.h"
#include "tamias/ops/column_sparse_mlp.h"
#include "tamias/ops/linear.h"
#include "tamias/ops/mask.h"
#include "tamias/ops/norm.h"
#include "tamias/ops/rotary.h"
#include "tamias/ops/top_k.h"

namespace tamias::python {
namespace {

using nb::literals::operator""_a;

// An operation as a function of the module, with a name for each argument: the context is its own
// while it runs, in the caller's queue, and other threads of Python go on.
template <typename... Arguments, typename... Extra>
void Define(nb::module_& module, const char* name, void (*run)(Context&, Arguments...),
            const Extra&... extra) {
  static_assert(sizeof...(Arguments) == sizeof...(Extra), "a name for each argument");
  module.def(
      name,
      [run](SharedContext& shared, uintptr_t stream, Arguments... arguments) {
        shared.With(stream,
                    [&](Context& context) { run(context, std::forward<Arguments>(arguments)...); });
      },
      nb::call_guard<Released>(), "context"_a, "stream"_a, extra...);
}

AttentionInputs InputsOf(const ConstArray& query, const ConstArray& key, const ConstArray& value,
                         float scale, bool causal) {
  return {.query = ViewOf(query, "query"),
          .key = ViewOf(key, "key"),
          .value = ViewOf(value, "value"),
          .scale = scale,
          .causal = causal};
}

void BindAttention(nb::module_& module) {
  Define(
      module, "dense_attention",
      +[](Context& context, const ConstArray& query, const ConstArray& key, const ConstArray& value,
          float scale, bool causal, const Array& output, const OptionalArray& log_sum_exp) {
        CheckApart(output, key, "key");
        CheckApart(output, value, "value");
        DenseAttention(context, InputsOf(query, key, value, scale, causal), ViewOf(output, "out"),
                       ViewOf(log_sum_exp, "log_sum_exp"));
      },
      "query"_a, "key"_a, "value"_a, "scale"_a, "causal"_a, "out"_a, "log_sum_exp"_a.none());
  Define(
      module, "dense_attention_column_sums",
      +[](Context& context, const ConstArray& query, const ConstArray& key, const ConstArray& value,
          float scale, bool causal, const ConstArray& previous, int64_t group_size,
          const Array& output, const Array& log_sum_exp, const Array& column_sums) {
        CheckApart(output, key, "key");
        CheckApart(output, value, "value");
        DenseAttentionColumnSums(context, InputsOf(query, key, value, scale, causal),
                                 ViewOf(previous, "previous_log_sum_exp"), group_size,
                                 ViewOf(output, "out"), ViewOf(log_sum_exp, "log_sum_exp"),
                                 ViewOf(column_sums, "column_sums"));
      },
      "query"_a, "key"_a, "value"_a, "scale"_a, "causal"_a, "previous_log_sum_exp"_a,
      "group_size"_a, "out"_a, "log_sum_exp"_a, "column_sums"_a);
  Define(
      module, "column_sparse_attention",
      +[](Context& context, const ConstArray& query, const ConstArray& key, const ConstArray& value,
          float scale, bool causal, const ConstArray& indices, const ConstArray& counts,
          int64_t group_size, int64_t dense_rows, const OptionalConstArray& base,
          const OptionalConstArray& base_log_sum_exp, float sparse_scale, const Array& output,
          const OptionalArray& log_sum_exp) {
        CheckApart(output, key, "key");
        CheckApart(output, value, "value");
        ColumnSparseAttention(context, InputsOf(query, key, value, scale, causal),
                              {.indices = ViewOf(indices, "indices"),
                               .counts = ViewOf(counts, "counts"),
                               .group_size = group_size,
                               .dense_rows = dense_rows},
                              {.base = ViewOf(base, "base"),
                               .base_log_sum_exp = ViewOf(base_log_sum_exp, "base_log_sum_exp"),
                               .scale = sparse_scale},
                              ViewOf(output, "out"), ViewOf(log_sum_exp, "log_sum_exp"));
      },
      "query"_a, "key"_a, "value"_a, "scale"_a, "causal"_a, "indices"_a, "counts"_a, "group_size"_a,
      "dense_rows"_a, "base"_a.none(), "base_log_sum_exp"_a.none(), "sparse_scale"_a, "out"_a,
      "log_sum_exp"_a.none());
}

void BindSelection(nb::module_& module) {
  Define(
      module, "top_k_mask",
      +[](Context& context, const ConstArray& scores, int64_t k, const Array& mask) {
        TopKMask(context, ViewOf(scores, "scores"), k, ViewOf(mask, "mask"));
      },
      "scores"_a, "k"_a, "mask"_a);
  Define(
      module, "approximate_top_k_mask",
      +[](Context& context, const ConstArray& scores, int64_t k, int64_t sample_size, uint64_t seed,
          const Array& mask) {
        ApproximateTopKMask(context, ViewOf(scores, "scores"), k, sample_size, seed,
                            ViewOf(mask, "mask"));
      },
      "scores"_a, "k"_a, "sample_size"_a, "seed"_a, "mask"_a);
  Define(
      module, "random_mask",
      +[](Context& context, double probability, uint64_t seed, const Array& mask, int64_t columns) {
        RandomMask(context, probability, seed, ViewOf(mask, "mask"), columns);
      },
      "probability"_a, "seed"_a, "mask"_a, "columns"_a);
  Define(
      module, "count_mask",
      +[](Context& context, const ConstArray& mask, const Array& counts) {
        CountMask(context, ViewOf(mask, "mask"), ViewOf(counts, "counts"));
      },
      "mask"_a, "counts"_a);
  Define(
      module, "mask_to_indices",
      +[](Context& context, const ConstArray& mask, int64_t columns, const Array& indices,
          const Array& counts) {
        MaskToIndices(context, ViewOf(mask, "mask"), columns, ViewOf(indices, "indices"),
                      ViewOf(counts, "counts"));
      },
      "mask"_a, "columns"_a, "indices"_a, "counts"_a);
  Define(
      module, "block_mean",
      +[](Context& context, const ConstArray& input, int64_t group_size, const Array& output) {
        BlockMean(context, ViewOf(input, "input"), group_size, ViewOf(output, "out"));
      },
      "input"_a, "group_size"_a, "out"_a);
}

void BindMlp(nb::module_& module) {
  nb::class_<OwnedMlpWeights>(module, "MlpWeights")
      .def(nb::init<ConstArray, ConstArray, OptionalConstArray, OptionalConstArray,
                    std::string_view, bool, bool>(),
           "fc1_weight"_a, "fc2_weight"_a, "fc1_bias"_a.none() = nb::none(),
           "fc2_bias"_a.none() = nb::none(), "activation"_a = "gelu_tanh", "gated"_a = false,
           "gate_first"_a = true);
  Define(
      module, "store_activations",
      +[](Context& context, const ConstArray& activations, const Array& cached) {
        StoreActivations(context, ViewOf(activations, "activations"),
                         ViewOf(cached, "cached_activations"));
      },
      "activations"_a, "cached_activations"_a);
  Define(
      module, "column_sparse_mlp",
      +[](Context& context, const ConstArray& input, OwnedMlpWeights& weights,
          const ConstArray& indices, const ConstArray& counts, int64_t group_size, bool is_fp8,
          const Array& cached_activations, const Array& output_cache) {
        MlpWeights sparse_weights = weights.ForSparseSteps(context);
        sparse_weights.is_fp8 = is_fp8;
        ColumnSparseMlp(context, ViewOf(input, "input"), sparse_weights,
                        {.indices = ViewOf(indices, "indices"),
                         .counts = ViewOf(counts, "counts"),
                         .group_size = group_size},
                        ViewOf(cached_activations, "cached_activations"),
                        ViewOf(output_cache, "output_cache"));
      },
      "input"_a, "weights"_a, "indices"_a, "counts"_a, "group_size"_a, "is_fp8"_a,
      "cached_activations"_a, "output_cache"_a);
}

void BindLayers(nb::module_& module) {
  Define(
      module, "zero",
      +[](Context& context, const Array& array) { Zero(context, ViewOf(array, "out")); }, "out"_a);
  Define(
      module, "linear",
      +[](Context& context, const ConstArray& input, const ConstArray& weight,
          const OptionalConstArray& bias, std::string_view activation, const Array& output) {
        Linear(context, ViewOf(input, "input"), ViewOf(weight, "weight"), ViewOf(bias, "bias"),
               ViewOf(output, "out"), {.activation = ActivationOf(activation)});
      },
      "input"_a, "weight"_a, "bias"_a.none(), "activation"_a, "out"_a);
  Define(
      module, "layer_norm",
      +[](Context& context, const ConstArray& input, const OptionalConstArray& weight,
          const OptionalConstArray& bias, float epsilon, const Array& output) {
        LayerNorm(context, ViewOf(input, "input"), ViewOf(weight, "weight"), ViewOf(bias, "bias"),
                  epsilon, ViewOf(output, "out"));
      },
      "input"_a, "weight"_a.none(), "bias"_a.none(), "epsilon"_a, "out"_a);
  Define(
      module, "rms_norm",
      +[](Context& context, const ConstArray& input, const OptionalConstArray& weight,
          float epsilon, const Array& output) {
        RmsNorm(context, ViewOf(input, "input"), ViewOf(weight, "weight"), epsilon,
                ViewOf(output, "out"));
      },
      "input"_a, "weight"_a.none(), "epsilon"_a, "out"_a);
  Define(
      module, "rms_norm_rotary",
      +[](Context& context, const ConstArray& input, const OptionalConstArray& norm_weight,
          float epsilon, const OptionalConstArray& cosine, const OptionalConstArray& sine,
          const Array& output) {
        RmsNormRotary(context, ViewOf(input, "input"), ViewOf(norm_weight, "norm_weight"), epsilon,
                      ViewOf(cosine, "cosine"), ViewOf(sine, "sine"), ViewOf(output, "out"));
      },
      "input"_a, "norm_weight"_a.none(), "epsilon"_a, "cosine"_a.none(), "sine"_a.none(), "out"_a);
}

}  // namespace

void BindOperations(nb::module_& module) {
  nb::class_<SharedContext>(module, "Context")
      .def(nb::init<int, std::string_view, std::string_view>(), "threads"_a, "dtype"_a, "device"_a)
      .def_prop_ro("threads", [](const SharedContext& shared) { return shared.context.threads(); })
      .def_prop_ro("dtype",
                   [](const SharedContext& shared) {
                     return std::string(Name(shared.context.activation_dtype()));
                   })
      .def_prop_ro("device",
                   [](const SharedContext& shared) { return Name(shared.context.device()); })
      .def("synchronize", &SharedContext::Synchronize, nb::call_guard<Released>());
  module.def("empty_on_gpu", &EmptyOnGpu, "gpu"_a, "shape"_a, "dtype"_a);
  BindAttention(module);
  BindSelection(module);
  BindMlp(module);
  BindLayers(module);
}

}  // namespace tamias::python
