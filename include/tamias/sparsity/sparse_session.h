// The sparsity state of one generation: everything that dynamic column sparsity remembers between
// denoising steps, allocated once, of known size. Two sessions share nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tamias/sparsity/config.h"
#include "tamias/sparsity/geometry.h"
#include "tamias/sparsity/report.h"
#include "tamias/sparsity/schedule.h"
#include "tamias/sparsity/sparse_invocation.h"
#include "tamias/sparsity/state_builder.h"
#include "tamias/sparsity/token_order.h"

namespace tamias {

// The most image tokens of a picture or film that anything is planned for: nine times the longest
// published video (HunyuanVideo at 720x1280x129: 118,800; FLUX.1 at 2304x1280: 11,520). A mistyped
// size should fail before anything is built.
inline constexpr int64_t kMaxImageTokens = int64_t{1} << 20;

// The most layers of a model: the largest published have about a hundred.
inline constexpr int64_t kMaxLayers = 4096;

class RankExchange;

// Named byte counts that are exact: what the constructor will allocate.
struct StatePlan {
  struct Entry {
    std::string name;  // "attention output cache"
    size_t bytes = 0;
  };
  std::vector<Entry> entries;
  // Spilled: the file's size, and what of it is in memory at one time.
  size_t spill_bytes = 0;
  size_t spill_resident_bytes = 0;
  size_t unparted_bytes = 0;              // of no layer
  std::vector<StateBuilder::Part> parts;  // each attention, MLP and step cache

  int64_t NumLayers() const;  // that keep anything
  // With StatePlace::host_layers: what is on the GPU at one time, and what in pinned memory of the
  // host.
  size_t DeviceBytes(int64_t host_layers) const;
  size_t HostBytes(int64_t host_layers) const;

  size_t TotalBytes() const;     // of the entries
  std::string ToString() const;  // "attention output cache 12.0 MiB, ..."
};

// Where the state lives: in memory of the device, but for what is said here.
struct StatePlace {
  // In a temporary file in SpillFolder(), of which one layer at a time is in memory: of a CPU.
  bool is_file = false;
  // So many of the StatePlan's NumLayers(), spread evenly among those that stay, in pinned memory
  // of the host, from where three attentions or MLPs at a time come to the device: of a GPU. The
  // step caches go with the last layer.
  int64_t host_layers = 0;

  bool IsDevice() const { return !is_file && host_layers == 0; }
};

class SparseSession {
 public:
  // In memory of the host. One geometry for each model call of a step, of one grid and as many
  // layers. Allocates the state; throws kOutOfMemory with the plan in the message, kInvalidArgument
  // for geometries that contradict themselves or each other.
  SparseSession(const SparsityConfig& config, std::vector<SparseGeometry> invocations,
                const StatePlace& place = {});
  // On the context's device, which models then run on with this session. Throws kUnsupported for
  // state in a file of a GPU, or in the host's memory of a CPU. With a planning context the state
  // has no memory, whatever fits, and models run dry with it: see KindsOfSteps. exchange: with the
  // GPUs that compute the calls together with this one, where the geometries have ranks.
  SparseSession(const Context& context, const SparsityConfig& config,
                std::vector<SparseGeometry> invocations, const StatePlace& place = {},
                std::shared_ptr<RankExchange> exchange = {});
  // One model call a step.
  SparseSession(const SparsityConfig& config, const SparseGeometry& geometry);
  // Plain dense computation, no state: for models outside a denoising loop.
  static std::unique_ptr<SparseSession> Dense(int num_invocations = 1);
  ~SparseSession();
  SparseSession(const SparseSession&) = delete;
  SparseSession& operator=(const SparseSession&) = delete;

  static StatePlan Plan(const SparsityConfig& config,
                        const std::vector<SparseGeometry>& invocations,
                        const Placement& placement = {});

  // Starts step 0, 1, 2, ... in turn. The caller then runs the model once for each invocation, in
  // any order; kSkip: it computes its last layer at most. time: the step's noise level, which
  // step_caching.reuse extrapolates to; not given: the step's number.
  StepKind BeginStep(int64_t step, std::optional<double> time = std::nullopt);
  // Ends the step begun last; implied by the next BeginStep.
  void EndStep();
  // Another model of the same geometry makes the steps from the next one on: nothing that is kept
  // serves it, and it begins as the first did (StepSchedule's restart).
  void Restart();

  // For plans. The steps after which everything that a generation may compute was computed once,
  // whatever its schedule: the model run dry on each of them, in turn, takes from the workspace
  // what the greediest step of a generation does.
  std::vector<StepPlan> KindsOfSteps() const;
  // As BeginStep, with a step of this kind.
  void BeginPlannedStep(const StepPlan& kind);

  int num_invocations() const;
  SparseInvocation& invocation(int index);
  const TokenOrder& token_order() const;
  // With all that the step under way has done so far; waits for it on a GPU.
  const SparsityReport& report() const;
  size_t allocated_bytes() const;  // equals plan().TotalBytes()
  const StatePlan& plan() const;   // equals Plan(...)

 private:
  // The next step, as planned.
  StepKind Begin(const StepPlan& plan, std::optional<double> time);

  struct Implementation;
  std::unique_ptr<Implementation> implementation_;
};

}  // namespace tamias
