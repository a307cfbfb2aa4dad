// The column-sparse MLP on a CPU: groups of tokens in parallel; a group goes through both products
// kNeuronBlock neurons at a time, so that the delta stays in the cache.
#include "ops/column_sparse_mlp.h"

#include <algorithm>

#include "base/parallel.h"
#include "ops/cpu/bfloat16.h"
#include "ops/cpu/column_sparse_mlp_task.h"
#include "ops/cpu/widen.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/cpu/column_sparse_mlp.cc"
#include <hwy/foreach_target.h>  // IWYU pragma: keep
#include <hwy/highway.h>

#include "ops/cpu/column_sparse_mlp-inl.h"

HWY_BEFORE_NAMESPACE();
namespace tamias {
namespace HWY_NAMESPACE {

void MlpTileShape(cpu::Multiplier multiplier, int64_t* panel_lanes, int64_t* tile_rows) {
  *panel_lanes = PanelLanes();
  *tile_rows = multiplier == cpu::Multiplier::kTiles ? TileProducts::kRows : kTileRows;
}

// Both products, or with a delta of the caller's the first (input given) or the second.
template <class Products>
void RunMlpTaskAs(const cpu::MlpTask& task) {
  const cpu::MlpScratch layout(*task.weights, task.tokens, PanelLanes(), Products::kRows);
  float* panels = task.scratch;
  float* products = panels + layout.panel;
  float* strip = products + layout.products;
  float* block_delta = strip + layout.strip;
  float* converted = block_delta + layout.delta;
  const bool has_input = task.input.data != nullptr;
  if (has_input) mlp::FillPanels<Products>(task, panels);
  // A delta of floats is worked on where it lies.
  const bool is_callers = task.delta.data != nullptr;
  const bool is_copied =
      is_callers && (task.delta.dtype != DType::kF32 || Products::kElements == 2);
  const int64_t blocks = CeilDivide(task.count, cpu::kNeuronBlock);
  for (int64_t block = 0, j = 0; block < blocks; ++block) {
    const int64_t count = task.count * (block + 1) / blocks - j;
    mlp::DeltaLayout delta{block_delta, cpu::kNeuronBlock * PanelLanes(), PanelLanes()};
    if (is_callers && !is_copied) {
      delta = {task.delta.As<float>() + j * task.delta_stride, PanelLanes(), task.delta_stride};
    }
    const int32_t* indices = task.indices + j;
    if (has_input) {
      mlp::FirstProduct<Products>(task, indices, count, panels, products, converted, delta);
      if (is_copied) mlp::CopyDelta<true>(task, j, count, delta);
    } else if (is_copied) {
      mlp::CopyDelta<false>(task, j, count, delta);
    }
    if (task.output != nullptr) {
      if constexpr (Products::kElements == 2) mlp::PairDelta(task.tokens, count, delta);
      mlp::SecondProduct<Products>(task, indices, count, delta, strip);
    }
    j += count;
  }
}

void RunMlpTask(const cpu::MlpTask& task) {
#if HWY_TARGET == HWY_AVX3
  if (task.multiplier == cpu::Multiplier::kTiles) {
    const cpu::tiles::Session session;
    return RunMlpTaskAs<TileProducts>(task);
  }
  if (task.multiplier == cpu::Multiplier::kPairs) return RunMlpTaskAs<PairProducts>(task);
#endif
  RunMlpTaskAs<FloatProducts>(task);
}

void StoreActivationGroup(cpu::ConstElements activations, int64_t stride, int64_t tokens,
                          int64_t neurons, cpu::Elements cached, int64_t group_size) {
  lanes::WithElements(
      [&](const auto* from, auto* to) HWY_ATTR {
        transpose::TransposeTokens(from, stride, tokens, group_size, neurons, to, group_size);
      },
      activations, cached);
}

}  // namespace HWY_NAMESPACE
}  // namespace tamias
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tamias::cpu {
namespace {

HWY_EXPORT(MlpTileShape);
HWY_EXPORT(RunMlpTask);
HWY_EXPORT(StoreActivationGroup);

// What an operation hands to every task; null pointers: that product is not wanted.
struct MlpProblem {
  const MlpWeights& weights;
  const NeuronSelection& selection;
  int64_t tokens = 0;
  int64_t model_dim = 0;
  ConstTensorView input;
  TensorView cached_activations;
  TensorView delta;
  TensorView output;
  Multiplier multiplier = Multiplier::kFloats;
};

// What every operand that there is allows for.
Multiplier MultiplierOf(const MlpProblem& problem) {
  const auto is_narrow = [](const ConstTensorView& view) {
    return view.empty() || view.dtype() == DType::kBF16;
  };
  const bool are_narrow =
      is_narrow(problem.weights.fc1_weight) && is_narrow(problem.weights.fc2_weight_transposed) &&
      is_narrow(problem.input) && is_narrow(problem.cached_activations) && is_narrow(problem.delta);
  const bool are_even =
      problem.model_dim % 2 == 0 && (problem.input.empty() || problem.input.stride(1) % 2 == 0);
  return are_narrow && are_even ? BFloat16Multiplier(problem.model_dim) : Multiplier::kFloats;
}

// Tokens [begin, end) of group g of batch item b.
MlpTask MakeTask(const MlpProblem& problem, int64_t b, int64_t g, int64_t begin, int64_t end) {
  const NeuronSelection& selection = problem.selection;
  const int64_t group = b * selection.indices.dim(1) + g, capacity = selection.indices.dim(2);
  const int64_t first = g * selection.group_size + begin;
  MlpTask task;
  task.weights = &problem.weights;
  task.multiplier = problem.multiplier;
  task.indices = selection.indices.data<int32_t>() + group * capacity;
  task.count = selection.counts.data<int32_t>()[group];
  task.tokens = end - begin;
  task.model_dim = problem.model_dim;
  if (!problem.input.empty()) {
    task.input =
        ElementsAt(problem.input, b * problem.input.stride(0) + first * problem.input.stride(1));
    task.input_stride = problem.input.stride(1);
    task.cache =
        ElementsAt(problem.cached_activations,
                   group * problem.cached_activations.dim(2) * selection.group_size + begin);
    task.cache_stride = selection.group_size;
    task.cache_lanes = selection.group_size - begin;
  }
  if (!problem.output.empty()) {
    task.output = problem.output.data<float>() + b * problem.output.stride(0) +
                  first * problem.output.stride(1);
    task.output_stride = problem.output.stride(1);
  }
  if (!problem.delta.empty()) {
    task.delta = ElementsAt(problem.delta, group * capacity * selection.group_size + begin);
    task.delta_stride = selection.group_size;
  }
  return task;
}

// Groups are cut along their tokens, by whole panels, when they are too few to keep all threads
// busy to the end: the price is that each part reads the weights again.
int64_t TokensPerTask(const Context& context, int64_t groups, int64_t group_size,
                      int64_t panel_lanes) {
  int64_t parts = 1;
  while (groups * parts < 4 * context.threads() && 2 * parts * panel_lanes <= group_size) {
    parts *= 2;
  }
  const int64_t panels = (group_size + panel_lanes - 1) / panel_lanes;
  return (panels + parts - 1) / parts * panel_lanes;
}

// With an output of floats.
void RunGroups(Context& context, const MlpProblem& problem) {
  int64_t panel_lanes = 0, tile_rows = 0;
  HWY_DYNAMIC_DISPATCH(MlpTileShape)(problem.multiplier, &panel_lanes, &tile_rows);
  const int64_t group_size = problem.selection.group_size;
  const int64_t batch = problem.selection.indices.dim(0), groups = problem.selection.indices.dim(1);
  const int64_t step = context.threads() == 1
                           ? group_size
                           : TokensPerTask(context, batch * groups, group_size, panel_lanes);
  const int64_t parts = (group_size + step - 1) / step;
  const int64_t scratch_size =
      MlpScratch(problem.weights, std::min(step, group_size), panel_lanes, tile_rows).Size();
  float* scratch =
      context.workspace().Allocate({context.threads(), scratch_size}, DType::kF32).data<float>();
  if (context.IsPlanning()) return;
  ParallelForDynamic(context, batch * groups * parts, [&](int64_t index, int thread) {
    const int64_t b = index / (groups * parts), g = index / parts % groups;
    const int64_t tokens = std::min(group_size, problem.tokens - g * group_size);
    const int64_t begin = index % parts * step, end = std::min(begin + step, tokens);
    if (begin >= end) return;
    MlpTask task = MakeTask(problem, b, g, begin, end);
    task.scratch = scratch + thread * scratch_size;
    HWY_DYNAMIC_DISPATCH(RunMlpTask)(task);
  });
}

void Run(Context& context, MlpProblem problem) {
  Workspace::Scope scope(context.workspace());
  problem.multiplier = MultiplierOf(problem);
  const TensorView output = problem.output;
  WithWideOutput(context, output, /*keeps=*/true, [&](const TensorView& wide) {
    problem.output = wide;
    RunGroups(context, problem);
  });
}

}  // namespace

void ColumnSparseMlpUp(Context& context, ConstTensorView input, const MlpWeights& weights,
                       const NeuronSelection& selection, TensorView cached_activations,
                       TensorView delta) {
  Run(context, {.weights = weights,
                .selection = selection,
                .tokens = input.dim(1),
                .model_dim = input.dim(2),
                .input = input,
                .cached_activations = cached_activations,
                .delta = delta,
                .output = {}});
}

void ColumnSparseMlpDown(Context& context, ConstTensorView delta, const MlpWeights& weights,
                         const NeuronSelection& selection, TensorView output_cache) {
  // The delta is only read when there is no input.
  const TensorView delta_view(const_cast<void*>(delta.raw()), delta.dtype(), delta.shape());
  Run(context, {.weights = weights,
                .selection = selection,
                .tokens = output_cache.dim(1),
                .model_dim = output_cache.dim(2),
                .input = {},
                .cached_activations = {},
                .delta = delta_view,
                .output = output_cache});
}

void ColumnSparseMlp(Context& context, ConstTensorView input, const MlpWeights& weights,
                     const NeuronSelection& selection, TensorView cached_activations,
                     TensorView output_cache) {
  Run(context, {.weights = weights,
                .selection = selection,
                .tokens = input.dim(1),
                .model_dim = input.dim(2),
                .input = input,
                .cached_activations = cached_activations,
                .delta = {},
                .output = output_cache});
}

void StoreActivations(Context& context, ConstTensorView activations,
                      TensorView cached_activations) {
  const int64_t groups = cached_activations.dim(1), neurons = cached_activations.dim(2);
  const int64_t group_size = cached_activations.dim(3);
  ParallelForDynamic(context, cached_activations.dim(0) * groups, [&](int64_t group, int) {
    const int64_t b = group / groups, first = group % groups * group_size;
    HWY_DYNAMIC_DISPATCH(StoreActivationGroup)
    (ElementsAt(activations, b * activations.stride(0) + first * activations.stride(1)),
     activations.stride(1), std::min(group_size, activations.dim(1) - first), neurons,
     ElementsAt(cached_activations, group * neurons * group_size), group_size);
  });
}

}  // namespace tamias::cpu
#endif  // HWY_ONCE
