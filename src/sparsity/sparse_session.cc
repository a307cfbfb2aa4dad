// Builds, plans and steps the state of one generation.
#include "tamias/sparsity/sparse_session.h"

#include <algorithm>
#include <chrono>
#include <functional>
#include <numeric>
#include <optional>
#include <set>
#include <utility>

#include "base/check.h"
#include "base/cuda/device.h"
#include "base/machine.h"
#include "base/offloaded_parts.h"
#include "base/spread.h"
#include "io/spill_file.h"
#include "sparsity/invocation_state.h"
#include "tamias/files.h"
#include "tamias/ops/mask.h"
#include "tamias/sparsity/selection.h"
#include "tamias/sparsity/state_builder.h"

namespace tamias {
namespace {

void CheckPositive(const char* field, int64_t value) {
  if (value <= 0) {
    Fail(ErrorCode::kInvalidArgument, "sparse session: geometry.{}: expected at least 1, found {}",
         field, value);
  }
}

void CheckRanks(const SparseGeometry& geometry) {
  if (geometry.rank_bounds.empty()) return;
  const std::vector<int64_t>& bounds = geometry.rank_bounds;
  const bool ascends = std::ranges::adjacent_find(bounds, std::greater_equal()) == bounds.end();
  if (bounds.size() < 2 || bounds.front() != 0 || bounds.back() != geometry.image_tokens() ||
      !ascends || geometry.rank < 0 || geometry.rank >= geometry.num_ranks() ||
      geometry.num_heads % geometry.num_ranks() != 0 || geometry.batch != 1) {
    Fail(
        ErrorCode::kInvalidArgument,
        "sparse session: geometry.rank_bounds: expected ascending bounds of {} image tokens, ranks "
        "that divide {} heads, one of them and a batch of 1",
        geometry.image_tokens(), geometry.num_heads);
  }
}

void CheckGeometry(const SparsityConfig& config, const SparseGeometry& geometry) {
  CheckPositive("batch", geometry.batch);
  CheckPositive("grid.time", geometry.grid.time);
  CheckPositive("grid.height", geometry.grid.height);
  CheckPositive("grid.width", geometry.grid.width);
  const double tokens = static_cast<double>(geometry.grid.time) *
                        static_cast<double>(geometry.grid.height) *
                        static_cast<double>(geometry.grid.width);
  if (tokens > static_cast<double>(kMaxImageTokens)) {
    Fail(ErrorCode::kOutOfMemory, "sparse session: {}x{}x{} tokens are more than {}",
         geometry.grid.time, geometry.grid.height, geometry.grid.width, kMaxImageTokens);
  }
  CheckPositive("num_layers", geometry.num_layers);
  if (geometry.num_layers > kMaxLayers) {
    Fail(ErrorCode::kInvalidArgument,
         "sparse session: geometry.num_layers: expected at most {}, found {}", kMaxLayers,
         geometry.num_layers);
  }
  CheckRanks(geometry);
  if (config.attn.is_enabled) {
    CheckPositive("num_heads", geometry.num_heads);
    CheckPositive("head_dim", geometry.head_dim);
  }
  if (config.mlp.is_enabled) {
    CheckPositive("model_dim", geometry.model_dim);
    CheckPositive("mlp_dim", geometry.mlp_dim);
    if (static_cast<int64_t>(geometry.mlp_tokens.size()) != geometry.num_layers) {
      Fail(ErrorCode::kInvalidArgument,
           "sparse session: geometry.mlp_tokens: expected {} layers, found {}", geometry.num_layers,
           geometry.mlp_tokens.size());
    }
  }
  if (config.step_caching.is_enabled) {
    const bool keeps_hidden = config.step_caching.reuse == StepReuse::kHidden;
    if (!keeps_hidden) CheckPositive("prediction_channels", geometry.prediction_channels);
    if (keeps_hidden || config.step_caching.threshold > 0) {
      CheckPositive("model_dim", geometry.model_dim);
    }
  }
}

void CheckInvocations(const SparsityConfig& config,
                      const std::vector<SparseGeometry>& invocations) {
  CheckPositive("num_invocations", static_cast<int64_t>(invocations.size()));
  for (const SparseGeometry& geometry : invocations) {
    CheckGeometry(config, geometry);
    if (geometry.grid != invocations.front().grid ||
        geometry.num_layers != invocations.front().num_layers) {
      Fail(ErrorCode::kInvalidArgument,
           "sparse session: geometry: the invocations differ in grid or num_layers");
    }
  }
}

// Invocations of one geometry share a selector, which holds the static columns of all layers.
using Selectors = std::vector<std::shared_ptr<ColumnSelector>>;

template <typename Make>  // std::shared_ptr<ColumnSelector> make(geometry)
Selectors MakeSelectors(const std::vector<SparseGeometry>& invocations, const Make& make) {
  Selectors selectors;
  for (size_t i = 0; i < invocations.size(); ++i) {
    const auto twin = std::find(invocations.begin(), invocations.end(), invocations[i]);
    const auto index = static_cast<size_t>(twin - invocations.begin());
    selectors.push_back(index < i ? selectors[index] : make(invocations[i]));
  }
  return selectors;
}

Selectors MakeSelectors(const SparsityConfig& config,
                        const std::vector<SparseGeometry>& invocations, const TokenOrder& order) {
  return MakeSelectors(invocations, [&](const SparseGeometry& geometry) {
    return config.attn.is_enabled
               ? MakeColumnSelector(config.attn, config.patchify, geometry, order)
               : nullptr;
  });
}

void CountStaticColumns(const SparsityConfig& config,
                        const std::vector<SparseGeometry>& invocations, const Selectors& selectors,
                        StateBuilder& builder) {
  if (!config.attn.is_enabled) return;
  std::set<const ColumnSelector*> counted;
  for (size_t i = 0; i < invocations.size(); ++i) {
    if (!counted.insert(selectors[i].get()).second) continue;
    const int64_t groups = (invocations[i].image_tokens() + config.attn.mbm - 1) / config.attn.mbm;
    builder.Count("attention static columns",
                  static_cast<size_t>(groups * MaskBytes(invocations[i].joint_tokens())));
  }
}

std::vector<std::unique_ptr<InvocationState>> MakeInvocations(
    const SparsityConfig& config, const std::vector<SparseGeometry>& geometries,
    const Selectors& selectors, const std::shared_ptr<RankExchange>& exchange,
    StateBuilder& builder) {
  CountStaticColumns(config, geometries, selectors, builder);
  std::vector<std::unique_ptr<InvocationState>> invocations;
  for (size_t i = 0; i < geometries.size(); ++i) {
    invocations.push_back(std::make_unique<InvocationState>(
        config, geometries[i], selectors[i].get(), exchange, static_cast<int>(i), builder));
  }
  return invocations;
}

StatePlan PlanOf(const StateBuilder& builder) {
  StatePlan plan;
  for (const auto& [name, bytes] : builder.entries()) plan.entries.push_back({name, bytes});
  plan.spill_bytes = builder.spill_bytes();
  plan.spill_resident_bytes = builder.spill_resident_bytes();
  plan.unparted_bytes = builder.unparted_bytes();
  plan.parts = builder.parts();
  return plan;
}

StatePlan PlanWith(const SparsityConfig& config, const std::vector<SparseGeometry>& geometries,
                   const Selectors& selectors, const Placement& placement) {
  const Context planning = Context::Planning(placement, /*threads=*/1);
  StateBuilder builder(planning);
  MakeInvocations(config, geometries, selectors, /*exchange=*/{}, builder);
  return PlanOf(builder);
}

void CheckFits(const StatePlan& plan, Device device) {
  std::vector<MemoryLimit> limits;
  if (device.type == DeviceType::kCuda) {
    const size_t bytes = cuda::PropertiesOf(device.index).memory_bytes;
    limits.push_back({MemoryLimit::Kind::kResident, "this GPU's memory", bytes});
  } else {
    limits = MemoryLimits();
  }
  const size_t bytes = plan.TotalBytes();
  const auto exceeded =
      std::ranges::find_if(limits, [&](const MemoryLimit& limit) { return bytes > limit.bytes; });
  if (exceeded != limits.end()) {
    Fail(ErrorCode::kOutOfMemory, "sparse session: the state does not fit {} of {}: {}",
         exceeded->name, BytesText(exceeded->bytes), plan.ToString());
  }
}

// The layers that keep anything, in their order.
std::set<int64_t> LayersOf(const StatePlan& plan) {
  std::set<int64_t> layers;
  for (const StateBuilder::Part& part : plan.parts) {
    if (part.layer && part.bytes > 0) layers.insert(*part.layer);
  }
  return layers;
}

// Of the plan's parts those that are in the host's memory.
std::vector<bool> PartsOnHost(const StatePlan& plan, int64_t host_layers) {
  const std::set<int64_t> layers = LayersOf(plan);
  const auto count = static_cast<int64_t>(layers.size());
  std::set<int64_t> chosen;
  int64_t i = 0;
  for (const int64_t layer : layers) {
    if (IsAmongSpread(i++, host_layers, count)) chosen.insert(layer);
  }
  std::vector<bool> on_host;
  for (const StateBuilder::Part& part : plan.parts) {
    const bool goes = part.layer ? chosen.contains(*part.layer) : count > 0 && host_layers >= count;
    on_host.push_back(goes && part.bytes > 0);
  }
  return on_host;
}

std::vector<size_t> BytesOnHost(const StatePlan& plan, int64_t host_layers) {
  const std::vector<bool> on_host = PartsOnHost(plan, host_layers);
  std::vector<size_t> bytes;
  for (size_t i = 0; i < on_host.size(); ++i) {
    if (on_host[i]) bytes.push_back(plan.parts[i].bytes);
  }
  return bytes;
}

StateBuilder MakeBuilder(const Context& context, const StatePlace& place, const StatePlan& plan) {
  if (place.IsDevice()) return StateBuilder(context);
  if (context.IsOnGpu() != (place.host_layers > 0)) {
    Fail(
        ErrorCode::kUnsupported, "sparse session: state on {} cannot be kept in {}",
        Name(context.device()),
        context.IsOnGpu() ? "a file (max_memory); it can on the CPU" : "pinned memory of the host");
  }
  if (context.IsPlanning()) return StateBuilder(context);
  if (place.host_layers > 0) {
    auto parts =
        std::make_shared<OffloadedParts>(context.device(), BytesOnHost(plan, place.host_layers));
    return StateBuilder(context, std::move(parts), PartsOnHost(plan, place.host_layers));
  }
  return StateBuilder(context, std::make_shared<SpillFile>(SpillFolder(), plan.spill_bytes));
}

}  // namespace

int64_t StatePlan::NumLayers() const { return static_cast<int64_t>(LayersOf(*this).size()); }

size_t StatePlan::HostBytes(int64_t host_layers) const {
  const std::vector<size_t> bytes = BytesOnHost(*this, host_layers);
  return std::accumulate(bytes.begin(), bytes.end(), size_t{0});
}

size_t StatePlan::DeviceBytes(int64_t host_layers) const {
  if (host_layers == 0) return TotalBytes();
  size_t bytes = unparted_bytes + OffloadedParts::DeviceBytes(BytesOnHost(*this, host_layers));
  for (const StateBuilder::Part& part : parts) bytes += part.bytes;
  return bytes - HostBytes(host_layers);
}

size_t StatePlan::TotalBytes() const {
  size_t total = 0;
  for (const Entry& entry : entries) {
    if (__builtin_add_overflow(total, entry.bytes, &total)) return SIZE_MAX;
  }
  return total;
}

std::string StatePlan::ToString() const {
  std::string text;
  for (const Entry& entry : entries) {
    text += fmt::format("{} {:.1f} MiB, ", entry.name, static_cast<double>(entry.bytes) / 0x1p20);
  }
  return text + fmt::format("total {:.1f} MiB", static_cast<double>(TotalBytes()) / 0x1p20);
}

struct SparseSession::Implementation {
  using Clock = std::chrono::steady_clock;

  Implementation(const SparsityConfig& config_in, std::vector<SparseGeometry> geometries_in)
      : config(config_in), geometries(std::move(geometries_in)), schedule(config_in) {}

  void Allocate(const Context& context, const StatePlace& place,
                const std::shared_ptr<RankExchange>& exchange) {
    TAMIAS_CHECK(context.IsPlanning() || exchange != nullptr ||
                 geometries.front().num_ranks() == 1);
    const bool must_fit = place.IsDevice() && !context.IsPlanning();
    const Placement& placement = context.placement();
    if (must_fit) {
      // Less than the whole plan, but known before anything of the picture's size is built.
      const auto no_columns = [](const SparseGeometry&) { return std::make_shared<TopColumns>(0); };
      CheckFits(PlanWith(config, geometries, MakeSelectors(geometries, no_columns), placement),
                placement.device);
    }
    order = MakeTokenOrder(config.patchify, geometries.front().grid);
    selectors = MakeSelectors(config, geometries, order);
    plan = PlanWith(config, geometries, selectors, placement);
    if (must_fit) CheckFits(plan, placement.device);
    StateBuilder builder = MakeBuilder(context, place, plan);
    try {
      for (const auto& selector : std::set(selectors.begin(), selectors.end())) {
        if (selector != nullptr) selector->MoveTo(context);
      }
      for (auto& state : MakeInvocations(config, geometries, selectors, exchange, builder)) {
        invocations.push_back(std::make_unique<SparseInvocation>(std::move(state)));
      }
    } catch (const Error& error) {
      if (error.code() != ErrorCode::kOutOfMemory) throw;
      Fail(ErrorCode::kOutOfMemory, "sparse session: the state cannot be allocated: {}",
           plan.ToString());
    }
    context.Synchronize();
    for (const auto& [name, bytes] : builder.entries()) report.state_bytes += bytes;
  }

  SparsityConfig config;
  std::vector<SparseGeometry> geometries;  // of the invocations
  StepSchedule schedule;
  StatePlan plan;
  TokenOrder order;
  Selectors selectors;  // of the invocations; null when attention is not enabled
  std::vector<std::unique_ptr<SparseInvocation>> invocations;
  SparsityReport report;
  StepNumbers numbers;                          // for the report of the step under way
  std::optional<Clock::time_point> step_start;  // of the step under way
};

SparseSession::SparseSession(const SparsityConfig& config, std::vector<SparseGeometry> invocations,
                             const StatePlace& place)
    : SparseSession(Context(), config, std::move(invocations), place) {}

SparseSession::SparseSession(const Context& context, const SparsityConfig& config,
                             std::vector<SparseGeometry> invocations, const StatePlace& place,
                             std::shared_ptr<RankExchange> exchange)
    : implementation_(std::make_unique<Implementation>(config, std::move(invocations))) {
  CheckInvocations(config, implementation_->geometries);
  implementation_->Allocate(context, place, exchange);
}

SparseSession::SparseSession(const SparsityConfig& config, const SparseGeometry& geometry)
    : SparseSession(config, std::vector{geometry}) {}

SparseSession::~SparseSession() = default;

std::unique_ptr<SparseSession> SparseSession::Dense(int num_invocations) {
  SparseGeometry geometry;
  geometry.grid = {1, 1, 1};
  geometry.num_layers = 1;
  return std::make_unique<SparseSession>(
      SparsityConfig::Dense(), std::vector(static_cast<size_t>(num_invocations), geometry));
}

StatePlan SparseSession::Plan(const SparsityConfig& config,
                              const std::vector<SparseGeometry>& invocations,
                              const Placement& placement) {
  CheckInvocations(config, invocations);
  const TokenOrder order = MakeTokenOrder(config.patchify, invocations.front().grid);
  return PlanWith(config, invocations, MakeSelectors(config, invocations, order), placement);
}

StepKind SparseSession::BeginStep(int64_t step, std::optional<double> time) {
  const Implementation& self = *implementation_;
  const auto expected = static_cast<int64_t>(self.report.steps.size());
  if (step != expected) {
    Fail(ErrorCode::kInvalidArgument, "sparse session: step: expected {}, found {}", expected,
         step);
  }
  return Begin(self.schedule.At(step), time);
}

void SparseSession::BeginPlannedStep(const StepPlan& kind) { Begin(kind, std::nullopt); }

StepKind SparseSession::Begin(const StepPlan& plan, std::optional<double> time) {
  EndStep();
  Implementation& self = *implementation_;
  const auto step = static_cast<int64_t>(self.report.steps.size());
  StepReport& report = self.report.steps.emplace_back();
  report.step = step;
  report.kind = plan.kind;
  const auto num_layers = static_cast<size_t>(self.geometries.front().num_layers);
  report.layers.resize(self.invocations.size() * num_layers);
  for (size_t i = 0; i < report.layers.size(); ++i) {
    report.layers[i].invocation = static_cast<int>(i / num_layers);
    report.layers[i].layer = static_cast<int>(i % num_layers);
  }
  for (auto& invocation : self.invocations) {
    invocation->state().BeginStep(plan, time.value_or(static_cast<double>(step)), &report,
                                  &self.numbers);
  }
  if (plan.is_skipped) report.invocations_skipped = num_invocations();
  self.step_start = Implementation::Clock::now();
  return plan.kind;
}

void SparseSession::EndStep() {
  Implementation& self = *implementation_;
  if (!self.step_start.has_value()) return;
  self.numbers.Collect();
  StepReport& report = self.report.steps.back();
  const std::chrono::duration<double> elapsed = Implementation::Clock::now() - *self.step_start;
  report.seconds = elapsed.count();
  if (report.invocations_skipped == num_invocations()) report.kind = StepKind::kSkip;
  self.step_start.reset();
}

void SparseSession::Restart() {
  EndStep();
  Implementation& self = *implementation_;
  self.schedule = StepSchedule(self.config, static_cast<int64_t>(self.report.steps.size()));
  for (auto& invocation : self.invocations) invocation->state().Forget();
}

std::vector<StepPlan> SparseSession::KindsOfSteps() const {
  const SparsityConfig& config = implementation_->config;
  const StepPlan full = {.attention_is_full = true, .mlp_is_full = true, .kind = StepKind::kFull};
  std::vector<StepPlan> kinds = {full};
  if (config.attn.is_enabled || config.mlp.is_enabled) {
    // The second full step selects, and the third measures how far the selection has drifted.
    kinds.insert(kinds.end(), {full, full, {.kind = StepKind::kSparse}});
  }
  if (config.step_caching.is_enabled) {
    kinds.push_back({.is_skipped = true, .kind = StepKind::kSkip});
  }
  return kinds;
}

int SparseSession::num_invocations() const {
  return static_cast<int>(implementation_->invocations.size());
}

SparseInvocation& SparseSession::invocation(int index) {
  if (index < 0 || index >= num_invocations()) {
    Fail(ErrorCode::kInvalidArgument, "sparse session: invocation: expected less than {}, found {}",
         num_invocations(), index);
  }
  return *implementation_->invocations[static_cast<size_t>(index)];
}

const TokenOrder& SparseSession::token_order() const { return implementation_->order; }

const SparsityReport& SparseSession::report() const {
  implementation_->numbers.Collect();  // of a step that has not ended
  return implementation_->report;
}

const StatePlan& SparseSession::plan() const { return implementation_->plan; }

size_t SparseSession::allocated_bytes() const { return implementation_->report.state_bytes; }

}  // namespace tamias
