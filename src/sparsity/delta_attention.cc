// Full and sparse steps of attention as a delta: see the header for the method.
#include "tamias/sparsity/delta_attention.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "base/check.h"
#include "ops/attention_rest.h"
#include "ops/check_tensor.h"
#include "sparsity/pooled_attention.h"
#include "sparsity/step_numbers.h"
#include "sparsity/stopwatch.h"
#include "tamias/device_memory.h"
#include "tamias/ops/attention.h"
#include "tamias/ops/elementwise.h"
#include "tamias/ops/mask.h"

namespace tamias {
namespace {

// Scratch of one part (column sums, masks and indices): large enough to keep all threads busy.
constexpr int64_t kPartBytes = int64_t{128} << 20;

// Drift is measured on this many groups of one head: a few percent of a sparse step.
constexpr int64_t kSampledGroups = 8;

int64_t NumGroups(const SparsityConfig::Attention& config, const SparseGeometry& geometry) {
  return (geometry.image_tokens() + config.mbm - 1) / config.mbm;
}

// The cache is the base of a kernel's output and has its type where that has 16 bits;
// attn.cache_dtype speaks of f32.
DType CacheType(const SparsityConfig::Attention& config, const Placement& placement) {
  const bool is_wide = placement.activation_dtype == DType::kF32;
  return is_wide ? config.cache_dtype : placement.activation_dtype;
}

// Column sums, a mask twice (the random columns are drawn into a second one), indices and counts.
int64_t ScratchBytesPerHead(int64_t groups, int64_t keys, int64_t capacity) {
  return groups * (keys * 4 + 2 * MaskBytes(keys) + capacity * 4 + 4);
}

int64_t HeadsPerPart(const SparseGeometry& geometry, int64_t groups, int64_t capacity) {
  const int64_t bytes = ScratchBytesPerHead(groups, geometry.joint_tokens(), capacity);
  return std::clamp(kPartBytes / bytes, int64_t{1}, geometry.heads_of_rank());
}

}  // namespace

DeltaAttention::DeltaAttention(const SparsityConfig::Attention& config, bool should_profile,
                               const SparseGeometry& geometry, const ColumnSelector& selector,
                               uint64_t seed, StateBuilder& state)
    : config_(config),
      should_profile_(should_profile),
      geometry_(geometry),
      selector_(selector),
      seed_(seed),
      num_heads_(geometry.heads_of_rank()),
      num_groups_(NumGroups(config, geometry)),
      capacity_(std::max(int64_t{1}, selector.MaxColumns())) {
  const int64_t batch = geometry.batch;
  const int64_t heads = num_heads_;
  const int64_t tokens = geometry.image_tokens();
  if (config.column_sums == ColumnSums::kExact || config.merge == AttentionMerge::kLse) {
    log_sum_exp_ = state.Make("attention log-sum-exp", {batch, heads, tokens});
  }
  if (config.merge != AttentionMerge::kPooled) {
    cache_ = state.Make("attention output cache", {batch, heads, tokens, geometry.head_dim},
                        CacheType(config, state.placement()));
  }
  if (config.merge == AttentionMerge::kLse) {
    rest_log_sum_exp_ = state.Make("attention log-sum-exp", {batch, heads, tokens});
  }
  if (config.should_compress_indices) {
    mask_ = state.Make("attention selection",
                       {batch, heads, num_groups_, MaskBytes(geometry.joint_tokens())}, DType::kU8);
  } else {
    indices_ =
        state.Make("attention selection", {batch, heads, num_groups_, capacity_}, DType::kI32);
    counts_ = state.Make("attention selection", {batch, heads, num_groups_}, DType::kI32);
  }
  if (state.placement().IsOnGpu()) {
    order_ = state.Make("attention selection", {batch, heads, num_groups_}, DType::kI32);
  }
}

template <typename Body>
void DeltaAttention::ForEachPart(const Body& body) const {
  const int64_t heads = HeadsPerPart(geometry_, num_groups_, capacity_);
  for (int64_t batch = 0; batch < geometry_.batch; ++batch) {
    for (int64_t head = 0; head < num_heads_; head += heads) {
      body(Part{batch, head, std::min(head + heads, num_heads_)});
    }
  }
}

void DeltaAttention::Run(Context& context, bool is_full, const AttentionInputs& inputs,
                         TensorView output, LayerReport& report, StepNumbers* numbers) {
  if (inputs.causal) {
    Fail(ErrorCode::kUnsupported, "delta attention: causal: expected bidirectional attention");
  }
  const int64_t text = geometry_.text_tokens;
  const int64_t keys = geometry_.joint_tokens();
  const Shape joint = {geometry_.batch, num_heads_, keys, geometry_.head_dim};
  CheckActivationRows(context, "delta attention", "query", inputs.query, joint);
  CheckActivationRows(context, "delta attention", "key", inputs.key, joint);
  CheckActivationRows(context, "delta attention", "value", inputs.value, joint);
  CheckActivationRows(context, "delta attention", "output", output, joint);
  const double heads = static_cast<double>(geometry_.batch * num_heads_);
  const double dense_pairs = heads * static_cast<double>(keys) * static_cast<double>(keys);
  report.attention.dense += dense_pairs;
  if (is_full || !(has_selection_ || SelectsOnSparseSteps())) {
    AttendText(context, inputs, output, report);
    RunFull(context, inputs.OfQueries(text, keys), output.Slice(2, text, keys), report, numbers);
    report.attention.done += dense_pairs;
  } else {
    RunSparse(context, inputs, output, report, numbers);
    const double text_pairs = heads * static_cast<double>(text) * static_cast<double>(keys);
    ThenUse(numbers,
            [this, &report, text_pairs] { report.attention.done += selected_pairs_ + text_pairs; });
  }
}

void DeltaAttention::Forget() {
  full_steps_ = 0;
  selections_ = 0;
  has_selection_ = false;
}

void DeltaAttention::AttendText(Context& context, const AttentionInputs& inputs, TensorView output,
                                LayerReport& report) const {
  const int64_t text = geometry_.text_tokens;
  if (text == 0) return;
  Stopwatch watch(context, report.seconds.attention);
  DenseAttention(context, inputs.OfQueries(0, text), output.Slice(2, 0, text));
}

void DeltaAttention::RunFull(Context& context, const AttentionInputs& image, TensorView output,
                             LayerReport& report, StepNumbers* numbers) {
  if (full_steps_ == 0 && config_.column_sums == ColumnSums::kExact) {
    Stopwatch watch(context, report.seconds.attention);
    DenseAttention(context, image, output, log_sum_exp_);
  } else {
    const bool selects = IsSelectionDue();
    const auto drift = std::make_shared<Distance>();
    if (selects) BeginSelection(numbers);
    ForEachPart([&](const Part& part) {
      FullPart(context, part, image, output, selects, drift, report, numbers);
    });
    ThenUse(numbers, [drift, &report] {
      const bool is_measured = drift->squared_reference > 0;
      report.attention_drift += {drift->squared, drift->squared_reference, is_measured};
    });
    has_selection_ = true;
  }
  ++full_steps_;
}

void DeltaAttention::FullPart(Context& context, const Part& part, const AttentionInputs& image,
                              TensorView output, bool selects, const SharedDistance& drift,
                              LayerReport& report, StepNumbers* numbers) {
  const AttentionInputs inputs = part.Of(image);
  const TensorView part_output = part.Of(output);
  const TensorView lse = log_sum_exp_.empty() ? TensorView() : part.Of(log_sum_exp_.view());
  const bool is_exact = config_.column_sums == ColumnSums::kExact;
  Workspace::Scope scope(context.workspace());
  TensorView column_sums;
  if (selects) column_sums = AllocateColumnSums(context, part);
  {
    Stopwatch watch(context, report.seconds.attention);
    if (selects && is_exact) {
      DenseAttentionColumnSums(context, inputs, lse, config_.mbm, part_output, lse, column_sums);
    } else {
      DenseAttention(context, inputs, part_output, lse);
    }
  }
  Stopwatch watch(context, report.seconds.attention_selection);
  if (selects && !is_exact) {
    Workspace::Scope pooled_scope(context.workspace());
    PooledAttention(context, inputs, config_.mbm).ColumnSums(context, column_sums);
  }
  if (SelectsOnSparseSteps()) {  // so that drift is that of the columns a sparse step would choose
    if (selects) SelectColumns(context, part, column_sums, numbers);
    AddDrift(context, part, image, output, drift, numbers);
    return;
  }
  if (has_selection_) AddDrift(context, part, image, output, drift, numbers);
  if (selects) SelectColumns(context, part, column_sums, numbers);
  if (config_.merge != AttentionMerge::kPooled) Fold(context, part, image, output);
}

void DeltaAttention::BeginSelection(StepNumbers* numbers) {
  ThenUse(numbers, [this] { selected_pairs_ = 0; });
  ++selections_;
}

TensorView DeltaAttention::AllocateColumnSums(Context& context, const Part& part) const {
  return context.workspace().Allocate({1, part.heads(), num_groups_, geometry_.joint_tokens()},
                                      DType::kF32);
}

void DeltaAttention::RunSparse(Context& context, const AttentionInputs& inputs, TensorView output,
                               LayerReport& report, StepNumbers* numbers) {
  const int64_t text = geometry_.text_tokens;
  const int64_t keys = geometry_.joint_tokens();
  // Text attends to everything: a call of a few heads would last as long as its text.
  const bool is_text_apart = HeadsPerPart(geometry_, num_groups_, capacity_) < num_heads_;
  if (is_text_apart) AttendText(context, inputs, output, report);
  const int64_t first_row = is_text_apart ? text : 0;

  const bool selects = SelectsOnSparseSteps() && IsSelectionDue();
  if (selects) BeginSelection(numbers);
  ForEachPart([&](const Part& part) {
    Workspace::Scope scope(context.workspace());
    const AttentionInputs image = part.Of(inputs.OfQueries(text, keys));
    std::optional<PooledAttention> pooled;
    ColumnSelection selection;
    SparseAttentionEpilogue rest;
    {
      Stopwatch watch(context, report.seconds.attention_selection);
      if (config_.merge == AttentionMerge::kPooled) pooled.emplace(context, image, config_.mbm);
      if (selects) {
        Workspace::Scope sums_scope(context.workspace());
        const TensorView column_sums = AllocateColumnSums(context, part);
        pooled->ColumnSums(context, column_sums);
        SelectColumns(context, part, column_sums, numbers);
      }
      selection = UnpackInOrder(context, part);
      if (pooled) rest = pooled->Rest(context, selection);
    }
    Stopwatch watch(context, report.seconds.attention);
    if (!pooled) rest = Cached(context, part, 0, geometry_.image_tokens());
    selection.dense_rows = text - first_row;
    ColumnSparseAttention(context, part.Of(inputs.OfQueries(first_row, keys)), selection, rest,
                          part.Of(output.Slice(2, first_row, keys)));
  });
  has_selection_ = true;
}

void DeltaAttention::SelectColumns(Context& context, const Part& part, ConstTensorView column_sums,
                                   StepNumbers* numbers) {
  const int64_t rows = part.heads() * num_groups_;
  const int64_t keys = geometry_.joint_tokens();
  Workspace::Scope scope(context.workspace());
  TensorView mask = config_.should_compress_indices
                        ? part.Of(mask_.view()).Reshape({rows, MaskBytes(keys)})
                        : context.workspace().Allocate({rows, MaskBytes(keys)}, DType::kU8);
  TensorView counts = config_.should_compress_indices
                          ? context.workspace().Allocate({rows}, DType::kI32)
                          : part.Of(counts_.view()).Reshape({rows});
  Zero(context, mask);
  // Another draw of random columns for each selection, in which a head's are the same however the
  // heads are shared out.
  const auto draw = static_cast<uint64_t>(selections_ * geometry_.batch * geometry_.num_heads);
  const int64_t first_head =
      part.batch * geometry_.num_heads + geometry_.first_head() + part.first_head;
  selector_.Select(context,
                   {.column_sums = column_sums.Reshape({rows, keys}),
                    .num_groups = num_groups_,
                    .first_row = first_head * num_groups_,
                    .seed = seed_ ^ (draw * 0x9E3779B97F4A7C15u)},
                   mask);
  if (config_.should_compress_indices) {
    CountMask(context, mask, counts);
  } else {
    MaskToIndices(context, mask, keys, part.Of(indices_.view()).Reshape({rows, capacity_}), counts);
  }
  if (context.IsOnGpu()) {
    LongestFirstOrder(context, counts.Reshape({1, part.heads(), num_groups_}),
                      part.Of(order_.view()));
  }
  ReadNumbers(numbers, context, counts, [this](ConstTensorView chosen) {
    for (int64_t row = 0; row < chosen.dim(0); ++row) {
      const int64_t begin = row % num_groups_ * config_.mbm;
      const int64_t queries = std::min(config_.mbm, geometry_.image_tokens() - begin);
      selected_pairs_ += static_cast<double>(queries * chosen.host_data<int32_t>()[row]);
    }
  });
}

ColumnSelection DeltaAttention::Unpack(Context& context, const Part& part) {
  if (!config_.should_compress_indices) {
    return {part.Of(indices_.view()), part.Of(counts_.view()), config_.mbm};
  }
  const int64_t rows = part.heads() * num_groups_;
  const int64_t keys = geometry_.joint_tokens();
  TensorView indices = context.workspace().Allocate({rows, capacity_}, DType::kI32);
  TensorView counts = context.workspace().Allocate({rows}, DType::kI32);
  MaskToIndices(context, part.Of(mask_.view()).Reshape({rows, MaskBytes(keys)}), keys, indices,
                counts);
  return {indices.Reshape({1, part.heads(), num_groups_, capacity_}),
          counts.Reshape({1, part.heads(), num_groups_}), config_.mbm};
}

ColumnSelection DeltaAttention::UnpackInOrder(Context& context, const Part& part) {
  ColumnSelection selection = Unpack(context, part);
  if (context.IsOnGpu()) selection.order = part.Of(order_.view());
  return selection;
}

SparseAttentionEpilogue DeltaAttention::Cached(Context& context, const Part& part, int64_t begin,
                                               int64_t end) const {
  SparseAttentionEpilogue epilogue;
  epilogue.base = part.Of(cache_.view()).Slice(2, begin, end);
  if (cache_.dtype() != context.activation_dtype()) {
    const TensorView widened =
        context.workspace().Allocate(epilogue.base.shape(), context.activation_dtype());
    Convert(context, epilogue.base, widened);
    epilogue.base = widened;
  }
  if (config_.merge == AttentionMerge::kLse) {
    epilogue.base_log_sum_exp = part.Of(rest_log_sum_exp_.view()).Slice(2, begin, end);
  }
  return epilogue;
}

void DeltaAttention::Fold(Context& context, const Part& part, const AttentionInputs& image,
                          ConstTensorView output) {
  Workspace::Scope scope(context.workspace());
  const ColumnSelection selection = UnpackInOrder(context, part);
  const TensorView stored = part.Of(cache_.view());
  const DType dtype = context.activation_dtype();
  const bool is_narrow = cache_.dtype() != dtype;
  const TensorView cache = is_narrow ? context.workspace().Allocate(stored.shape(), dtype) : stored;
  if (config_.merge == AttentionMerge::kAdditive) {  // o_full - A_S
    SparseAttentionEpilogue epilogue;
    epilogue.base = part.Of(output);
    epilogue.scale = -1;
    ColumnSparseAttention(context, part.Of(image), selection, epilogue, cache);
  } else {
    TensorView selected =
        context.workspace().Allocate({1, part.heads(), geometry_.image_tokens()}, DType::kF32);
    ColumnSparseAttention(context, part.Of(image), selection, {}, cache, selected);
    AttentionRest(context,
                  {.output = part.Of(output),
                   .log_sum_exp = part.Of(log_sum_exp_.view()),
                   .selected_log_sum_exp = selected},
                  cache, part.Of(rest_log_sum_exp_.view()));
  }
  if (is_narrow) Convert(context, cache, stored);
}

void DeltaAttention::AddDrift(Context& context, const Part& part, const AttentionInputs& image,
                              ConstTensorView full, const SharedDistance& drift,
                              StepNumbers* numbers) {
  const auto turn = full_steps_ + static_cast<int64_t>(seed_ % 1024);
  const int64_t sampled_batch = full_steps_ % geometry_.batch;
  // Of all heads, so that a rank may have none to measure; a plan counts on one.
  const int64_t sampled_head =
      context.IsPlanning() ? 0 : turn % geometry_.num_heads - geometry_.first_head();
  const int64_t groups = should_profile_ ? num_groups_ : std::min(num_groups_, kSampledGroups);
  // The last group may be shorter than the others: a plan is made with the first ones.
  const int64_t first_group = context.IsPlanning() ? 0 : turn % (num_groups_ - groups + 1);
  for (int64_t head = part.first_head; head < part.last_head; ++head) {
    const bool is_sampled = part.batch == sampled_batch && head == sampled_head;
    if (!should_profile_ && !is_sampled) continue;
    AddDriftOfGroups(context, {part.batch, head, head + 1}, first_group, first_group + groups,
                     image, full, drift, numbers);
  }
}

void DeltaAttention::AddDriftOfGroups(Context& context, const Part& head, int64_t first_group,
                                      int64_t last_group, const AttentionInputs& image,
                                      ConstTensorView full, const SharedDistance& drift,
                                      StepNumbers* numbers) {
  const int64_t begin = first_group * config_.mbm;
  const int64_t end = std::min(last_group * config_.mbm, geometry_.image_tokens());
  Workspace::Scope scope(context.workspace());
  ColumnSelection selection = Unpack(context, head);
  selection.indices = selection.indices.Slice(2, first_group, last_group);
  selection.counts = selection.counts.Slice(2, first_group, last_group);
  const AttentionInputs inputs = head.Of(image.OfQueries(begin, end));
  const SparseAttentionEpilogue rest =
      config_.merge == AttentionMerge::kPooled
          ? PooledAttention(context, inputs, config_.mbm).Rest(context, selection)
          : Cached(context, head, begin, end);
  TensorView sparse = context.workspace().Allocate({1, 1, end - begin, geometry_.head_dim},
                                                   context.activation_dtype());
  ColumnSparseAttention(context, inputs, selection, rest, sparse);
  MeasureLater(numbers, context, sparse, head.Of(full).Slice(2, begin, end),
               [drift](const Distance& distance) { *drift += distance; });
}

}  // namespace tamias
