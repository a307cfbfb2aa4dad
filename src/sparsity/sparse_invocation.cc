// Routes each attention and MLP of a model to its delta, or to the dense operation.
#include "tamias/sparsity/sparse_invocation.h"

#include <utility>

#include "base/check.h"
#include "ops/check_tensor.h"
#include "sparsity/invocation_state.h"
#include "sparsity/stopwatch.h"
#include "tamias/ops/attention.h"

namespace tamias {
namespace {

// A different seed for each layer and use, and the same for all invocations: classifier-free
// guidance takes a multiple of the difference of two invocations, and errors of like columns cancel
// in it where independent ones would add up.
uint64_t SeedOf(int64_t layer, uint64_t use) { return (static_cast<uint64_t>(layer) << 8) ^ use; }

StepCache MakeStepCache(const SparsityConfig::StepCaching& config, const SparseGeometry& geometry,
                        StateBuilder& builder, StatePart& part) {
  builder.BeginPart();
  StepCache cache(config, geometry, builder);
  part = builder.EndPart();
  return cache;
}

double Pairs(int64_t a, int64_t b, int64_t c, int64_t d) {
  return static_cast<double>(a) * static_cast<double>(b) * static_cast<double>(c) *
         static_cast<double>(d);
}

}  // namespace

InvocationState::InvocationState(const SparsityConfig& config, const SparseGeometry& geometry,
                                 const ColumnSelector* selector,
                                 std::shared_ptr<RankExchange> exchange, int index,
                                 StateBuilder& builder)
    : geometry_(geometry),
      exchange_(std::move(exchange)),
      index_(index),
      num_layers_(static_cast<int>(geometry.num_layers)),
      needs_steps_(config.IsAnythingEnabled()),
      has_attention_(config.attn.is_enabled),
      has_mlp_(config.mlp.is_enabled),
      attention_(static_cast<size_t>(geometry.num_layers)),
      mlp_(static_cast<size_t>(geometry.num_layers)),
      attention_part_(static_cast<size_t>(geometry.num_layers)),
      mlp_part_(static_cast<size_t>(geometry.num_layers)),
      step_cache_(MakeStepCache(config.step_caching, geometry, builder, step_cache_part_)) {
  for (int64_t layer = 0; layer < geometry.num_layers; ++layer) {
    const auto i = static_cast<size_t>(layer);
    if (config.attn.is_enabled && layer >= config.attn.first_n_dense_layers) {
      builder.BeginPart(layer);
      attention_[i] = std::make_unique<DeltaAttention>(config.attn, config.should_profile, geometry,
                                                       *selector, SeedOf(layer, 1), builder);
      attention_part_[i] = builder.EndPart();
    }
    if (config.mlp.is_enabled && layer >= config.mlp.first_n_dense_layers &&
        geometry.mlp_tokens[i] > 0) {
      builder.BeginPart(layer);
      mlp_[i] = std::make_unique<DeltaMlp>(config.mlp, config.should_profile, geometry,
                                           geometry.mlp_tokens[i], SeedOf(layer, 2), builder);
      mlp_part_[i] = builder.EndPart();
    }
  }
}

void InvocationState::BeginStep(const StepPlan& plan, double time, StepReport* report,
                                StepNumbers* numbers) {
  plan_ = plan;
  report_ = report;
  numbers_ = numbers;
  step_cache_.BeginStep(time);
}

void InvocationState::Forget() {
  for (const auto& attention : attention_) {
    if (attention != nullptr) attention->Forget();
  }
  for (const auto& mlp : mlp_) {
    if (mlp != nullptr) mlp->Forget();
  }
  step_cache_.Forget();
}

void InvocationState::ReportSkipped() {
  if (report_ != nullptr) ++report_->invocations_skipped;
}

LayerReport& InvocationState::ReportOf(int layer) {
  if (report_ == nullptr || layer < 0 || layer >= num_layers_) return unreported_;
  return report_->layers[static_cast<size_t>(index_ * num_layers_ + layer)];
}

double& InvocationState::step_cache_seconds() {
  return report_ != nullptr ? report_->stages.step_cache : unreported_.seconds.step_cache;
}

void InvocationState::ReportExchanged(size_t bytes) {
  if (report_ != nullptr) report_->exchanged_bytes += bytes;
}

void InvocationState::Store(Context& context, ConstTensorView value) {
  Stopwatch watch(context, step_cache_seconds());
  WithStepCache(context, /*is_changed=*/true, [&] { step_cache_.Store(context, value); });
}

void InvocationState::Reuse(Context& context, TensorView output) {
  Stopwatch watch(context, step_cache_seconds());
  WithStepCache(context, /*is_changed=*/false, [&] { step_cache_.Reuse(context, output); });
}

DeltaAttention* InvocationState::attention(int layer) {
  if (layer < 0 || layer >= num_layers_) return nullptr;
  return attention_[static_cast<size_t>(layer)].get();
}

DeltaMlp* InvocationState::mlp(int layer) {
  if (layer < 0 || layer >= num_layers_) return nullptr;
  return mlp_[static_cast<size_t>(layer)].get();
}

void InvocationState::CheckStepHasBegun() const {
  if (needs_steps_ && report_ == nullptr) {
    Fail(ErrorCode::kInvalidArgument, "sparse invocation: BeginStep has not been called");
  }
}

SparseInvocation::SparseInvocation(std::unique_ptr<InvocationState> state)
    : state_(std::move(state)) {}
SparseInvocation::~SparseInvocation() = default;

ConstTensorView SparseInvocation::OwnText(ConstTensorView text) const {
  return text.Slice(1, 0, state_->geometry().has_text() ? text.dim(1) : 0);
}

bool SparseInvocation::IsSkipped() const { return state_->plan().is_skipped; }

bool SparseInvocation::ComparesInputs() const { return state_->step_cache().compares_inputs(); }

bool SparseInvocation::BeginForward(Context& context, ConstTensorView modulated_input) {
  state_->CheckStepHasBegun();
  if (IsSkipped()) {
    Fail(ErrorCode::kInvalidArgument, "sparse invocation: BeginForward: this step is skipped");
  }
  Stopwatch watch(context, state_->step_cache_seconds());
  bool runs = true;
  state_->WithStepCache(context, /*is_changed=*/true, [&] {
    StepCache::OverRanks over_ranks;
    if (RankExchange* exchange = state_->exchange(); exchange != nullptr) {
      over_ranks = [&](const Distance& own) { return exchange->Sum(state_->geometry().rank, own); };
    }
    runs = state_->step_cache().ShouldRun(context, state_->MustRun(), modulated_input, over_ranks);
  });
  if (!runs) state_->ReportSkipped();
  return runs;
}

void SparseInvocation::Attention(Context& context, int layer, const AttentionInputs& inputs,
                                 TensorView output) {
  const auto attend = [&](const AttentionInputs& own, TensorView own_output) {
    AttentionOfHeads(context, layer, own, own_output);
  };
  if (state_->geometry().num_ranks() == 1) return attend(inputs, output);
  state_->ReportExchanged(RankExchange::Attention(state_->exchange(), context, state_->geometry(),
                                                  inputs, output, attend));
}

void SparseInvocation::AttentionOfHeads(Context& context, int layer, const AttentionInputs& inputs,
                                        TensorView output) {
  state_->CheckStepHasBegun();
  LayerReport& report = state_->ReportOf(layer);
  if (DeltaAttention* attention = state_->attention(layer); attention != nullptr) {
    state_->WithAttention(context, layer, [&] {
      attention->Run(context, state_->plan().attention_is_full, inputs, output, report,
                     state_->numbers());
    });
    return;
  }
  Stopwatch watch(context, report.seconds.attention);
  DenseAttention(context, inputs, output);
  const double pairs =
      Pairs(inputs.query.dim(0), inputs.query.dim(1), inputs.query.dim(2), inputs.key.dim(2));
  report.attention += {pairs, pairs};
}

bool SparseInvocation::HasSparseMlp(int layer) const { return state_->mlp(layer) != nullptr; }

void SparseInvocation::Mlp(Context& context, int layer, const MlpWeights& weights,
                           ConstTensorView input, TensorView output) {
  state_->CheckStepHasBegun();
  LayerReport& report = state_->ReportOf(layer);
  if (DeltaMlp* mlp = state_->mlp(layer); mlp != nullptr) {
    state_->WithMlp(context, layer, [&] {
      mlp->Run(context, state_->step(), state_->plan().mlp_is_full, weights, input, output, report,
               state_->numbers());
    });
    return;
  }
  Stopwatch watch(context, report.seconds.mlp);
  DenseMlp(context, weights, input, output);
  const double pairs =
      Pairs(input.dim(0), input.dim(1), weights.fc1_weight.dim(0) / (weights.gated ? 2 : 1), 1);
  report.mlp += {pairs, pairs};
}

void SparseInvocation::StoreHidden(Context& context, ConstTensorView hidden) {
  if (state_->step_cache().keeps_hidden()) state_->Store(context, hidden);
}

void SparseInvocation::StorePrediction(Context& context, ConstTensorView prediction) {
  if (!state_->step_cache().keeps_hidden()) state_->Store(context, prediction);
}

bool SparseInvocation::CachedHidden(Context& context, TensorView hidden) {
  if (!state_->step_cache().keeps_hidden()) return false;
  state_->Reuse(context, hidden);
  return true;
}

void SparseInvocation::CachedPrediction(Context& context, TensorView prediction) {
  if (state_->step_cache().keeps_hidden()) {
    Fail(ErrorCode::kInvalidArgument,
         "sparse invocation: CachedPrediction: step_caching.reuse keeps the hidden state");
  }
  state_->Reuse(context, prediction);
}

}  // namespace tamias
