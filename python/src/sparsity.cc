// The sparsity layer on arrays: configurations, the state of one model call per step, and single
// layers as deltas.
#include "tamias/sparsity/config.h"

#include <nanobind/stl/array.h>
#include <nanobind/stl/filesystem.h>
#include <nanobind/stl/map.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/set.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/vector.h>

#include <cmath>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include "arrays.h"
#include "bindings.h"
#include "mlp_weights.h"
#include "released.h"
#include "shared_context.h"
#include "tamias/error.h"
#include "tamias/sparsity/delta_attention.h"
#include "tamias/sparsity/delta_mlp.h"
#include "tamias/sparsity/schedule.h"
#include "tamias/sparsity/selection.h"
#include "tamias/sparsity/sparse_session.h"

namespace tamias::python {
namespace {

using nb::literals::operator""_a;
using WithoutLock = nb::call_guard<Released>;

// "demo", or the path of a YAML file, told apart as GenerateOptions::sparsity is.
SparsityConfig LoadConfig(const std::filesystem::path& profile) {
  const std::string name = profile.string();
  const bool is_path =
      name.find('/') != std::string::npos || name.ends_with(".yml") || name.ends_with(".yaml");
  return LoadSparsityConfig(is_path ? profile : FindProfile(name));
}

void BindConfig(nb::module_& module) {
  nb::class_<SparsityConfig> config(
      module, "SparsityConfig",
      "The settings of dynamic column sparsity (docs/sparsity.md has every key). Without a file "
      "the "
      "published defaults. Keys are read as attributes, config.attn.top_keys, and set with set().");
  nb::class_<SparsityConfig::Attention>(config, "Attention")
      .def_ro("is_enabled", &SparsityConfig::Attention::is_enabled)
      .def_ro("top_keys", &SparsityConfig::Attention::top_keys)
      .def_ro("random_keys", &SparsityConfig::Attention::random_keys)
      .def_ro("first_n_dense_layers", &SparsityConfig::Attention::first_n_dense_layers)
      .def_ro("full_step_every", &SparsityConfig::Attention::full_step_every)
      .def_ro("full_step_schedule", &SparsityConfig::Attention::full_step_schedule)
      .def_ro("mbm", &SparsityConfig::Attention::mbm);
  nb::class_<SparsityConfig::Mlp>(config, "Mlp")
      .def_ro("is_enabled", &SparsityConfig::Mlp::is_enabled)
      .def_ro("top_keys", &SparsityConfig::Mlp::top_keys)
      .def_ro("random_keys", &SparsityConfig::Mlp::random_keys)
      .def_ro("first_n_dense_layers", &SparsityConfig::Mlp::first_n_dense_layers)
      .def_ro("full_step_every", &SparsityConfig::Mlp::full_step_every)
      .def_ro("mbm", &SparsityConfig::Mlp::mbm);
  nb::class_<SparsityConfig::StepCaching>(config, "StepCaching")
      .def_ro("is_enabled", &SparsityConfig::StepCaching::is_enabled)
      .def_ro("skip_step_schedule", &SparsityConfig::StepCaching::skip_step_schedule)
      .def_ro("threshold", &SparsityConfig::StepCaching::threshold)
      .def_prop_ro("reuse", [](const SparsityConfig::StepCaching& caching) {
        return std::string(Name(caching.reuse));
      });
  config.def(nb::init<>())
      .def_static("load", &LoadConfig, "name"_a,
                  "A profile by its name (tamias.profiles()), or a YAML file by its path.")
      .def_static(
          "parse", [](std::string_view yaml) { return ParseSparsityConfig(yaml, "yaml"); },
          "yaml"_a, "From the text of a YAML file.")
      .def_static("dense", &SparsityConfig::Dense, "Everything off.")
      .def(
          "set", [](SparsityConfig& self, std::string_view assignment) { Apply(self, assignment); },
          "assignment"_a, "Sets one key: config.set(\"attn.top_keys=0.1\").")
      .def_prop_ro("yaml", &WriteYaml, "Every key with its value; parse() reads it back.")
      .def_prop_ro("is_anything_enabled", &SparsityConfig::IsAnythingEnabled)
      .def_ro("steps", &SparsityConfig::steps)
      .def_ro("attn", &SparsityConfig::attn)
      .def_ro("mlp", &SparsityConfig::mlp)
      .def_ro("step_caching", &SparsityConfig::step_caching)
      .def(
          "warnings",
          [](const SparsityConfig& self, int64_t num_steps) {
            return ConfigWarnings(self, {.num_steps = num_steps});
          },
          "num_steps"_a = 0, "One sentence for each key that has no effect, or does not fit.")
      .def(
          "kind_of_step",
          [](const SparsityConfig& self, int64_t step) {
            return std::string(Name(StepSchedule(self).At(step).kind));
          },
          "step"_a, "\"full\", \"sparse\" or \"skip\", by schedule.");
  module.def("profiles", &ListProfiles, "Names of the shipped profiles.");
}

TokenGrid GridOf(const std::array<int64_t, 3>& grid) { return {grid[0], grid[1], grid[2]}; }

nb::dict ReportOf(const SparsityReport& report) {
  nb::list steps;
  for (const StepReport& step : report.steps) {
    nb::dict entry;
    entry["step"] = step.step;
    entry["kind"] = std::string(Name(step.kind));
    entry["seconds"] = step.seconds;
    entry["attention_sparsity"] = step.Attention().Sparsity();
    entry["mlp_sparsity"] = step.Mlp().Sparsity();
    steps.append(entry);
  }
  nb::dict all;
  all["steps"] = steps;
  all["attention_sparsity"] = report.AttentionSparsity();
  all["mlp_sparsity"] = report.MlpSparsity();
  all["state_bytes"] = report.state_bytes;
  return all;
}

// One model call per step with its state.
class Session {
 public:
  Session(const SparsityConfig& config, const SparseGeometry& geometry, std::string_view dtype,
          int threads, std::string_view device)
      : shared_(threads, dtype, device), session_(shared_.context, config, {geometry}) {}

  // `run(context, invocation)` as SharedContext::With.
  template <typename Run>
  auto With(uintptr_t stream, const Run& run) {
    return shared_.With(stream, [&](Context& context) { return run(context, invocation()); });
  }

  std::string BeginStep(int64_t step, std::optional<double> time) {
    return std::string(Name(session_.BeginStep(step, time)));
  }
  void Attention(int layer, const ConstArray& query, const ConstArray& key, const ConstArray& value,
                 float scale, const Array& output, uintptr_t stream) {
    CheckApart(output, key, "key");
    CheckApart(output, value, "value");
    With(stream, [&](Context& context, SparseInvocation& invocation) {
      invocation.Attention(context, layer,
                           {.query = ViewOf(query, "query"),
                            .key = ViewOf(key, "key"),
                            .value = ViewOf(value, "value"),
                            .scale = scale},
                           ViewOf(output, "out"));
    });
  }
  void Mlp(int layer, OwnedMlpWeights& weights, const ConstArray& input, const Array& output,
           uintptr_t stream) {
    With(stream, [&](Context& context, SparseInvocation& invocation) {
      const bool is_sparse = invocation.HasSparseMlp(layer);
      invocation.Mlp(context, layer, is_sparse ? weights.ForSparseSteps(context) : weights.dense(),
                     ViewOf(input, "input"), ViewOf(output, "out"));
    });
  }
  void Synchronize() { shared_.Synchronize(); }
  SparseSession& session() { return session_; }
  SparseInvocation& invocation() { return session_.invocation(0); }

 private:
  SharedContext shared_;
  SparseSession session_;
};

void BindSession(nb::module_& module) {
  nb::class_<Session>(module, "SparseSession")
      .def(
          "__init__",
          [](Session* session, const SparsityConfig& config, const std::array<int64_t, 3>& grid,
             int64_t num_layers, int64_t num_heads, int64_t head_dim, int64_t model_dim,
             int64_t text_tokens, int64_t mlp_dim, bool gated_mlp, std::vector<int64_t> mlp_tokens,
             int64_t prediction_channels, int64_t batch, std::string_view dtype, int threads,
             std::string_view device) {
            const SparseGeometry geometry = {.batch = batch,
                                             .text_tokens = text_tokens,
                                             .grid = GridOf(grid),
                                             .num_layers = num_layers,
                                             .num_heads = num_heads,
                                             .head_dim = head_dim,
                                             .model_dim = model_dim,
                                             .mlp_dim = mlp_dim,
                                             .gated_mlp = gated_mlp,
                                             .mlp_tokens = std::move(mlp_tokens),
                                             .prediction_channels = prediction_channels};
            new (session) Session(config, geometry, dtype, threads, device);
          },
          "config"_a, nb::kw_only(), "grid"_a, "num_layers"_a, "num_heads"_a, "head_dim"_a,
          "model_dim"_a, "text_tokens"_a, "mlp_dim"_a, "gated_mlp"_a, "mlp_tokens"_a,
          "prediction_channels"_a, "batch"_a, "dtype"_a, "threads"_a, "device"_a, WithoutLock())
      .def("begin_step", &Session::BeginStep, "step"_a, "time"_a.none(), WithoutLock())
      .def(
          "end_step", [](Session& self) { self.session().EndStep(); }, WithoutLock())
      .def_prop_ro("is_skipped", [](Session& self) { return self.invocation().IsSkipped(); })
      .def(
          "begin_forward",
          [](Session& self, const ConstArray& input, uintptr_t stream) {
            return self.With(stream, [&](Context& context, SparseInvocation& invocation) {
              return invocation.BeginForward(context, ViewOf(input, "modulated_input"));
            });
          },
          "modulated_input"_a, "stream"_a, WithoutLock())
      .def("attention", &Session::Attention, "layer"_a, "query"_a, "key"_a, "value"_a, "scale"_a,
           "out"_a, "stream"_a, WithoutLock())
      .def(
          "has_sparse_mlp",
          [](Session& self, int layer) { return self.invocation().HasSparseMlp(layer); }, "layer"_a)
      .def("mlp", &Session::Mlp, "layer"_a, "weights"_a, "input"_a, "out"_a, "stream"_a,
           WithoutLock())
      .def(
          "store_hidden",
          [](Session& self, const ConstArray& hidden, uintptr_t stream) {
            self.With(stream, [&](Context& context, SparseInvocation& invocation) {
              invocation.StoreHidden(context, ViewOf(hidden, "hidden"));
            });
          },
          "hidden"_a, "stream"_a, WithoutLock())
      .def(
          "cached_hidden",
          [](Session& self, const Array& hidden, uintptr_t stream) {
            return self.With(stream, [&](Context& context, SparseInvocation& invocation) {
              return invocation.CachedHidden(context, ViewOf(hidden, "out"));
            });
          },
          "out"_a, "stream"_a, WithoutLock())
      .def(
          "store_prediction",
          [](Session& self, const ConstArray& prediction, uintptr_t stream) {
            self.With(stream, [&](Context& context, SparseInvocation& invocation) {
              invocation.StorePrediction(context, ViewOf(prediction, "prediction"));
            });
          },
          "prediction"_a, "stream"_a, WithoutLock())
      .def(
          "cached_prediction",
          [](Session& self, const Array& prediction, uintptr_t stream) {
            self.With(stream, [&](Context& context, SparseInvocation& invocation) {
              invocation.CachedPrediction(context, ViewOf(prediction, "out"));
            });
          },
          "out"_a, "stream"_a, WithoutLock())
      .def_prop_ro("token_order",
                   [](Session& self) {
                     const auto tokens = self.session().token_order().tokens();
                     return std::vector<int32_t>(tokens.begin(), tokens.end());
                   })
      .def_prop_ro("state_bytes", [](Session& self) { return self.session().allocated_bytes(); })
      .def_prop_ro("plan",
                   [](Session& self) {
                     std::map<std::string, size_t> bytes;
                     for (const auto& entry : self.session().plan().entries) {
                       bytes[entry.name] = entry.bytes;
                     }
                     return bytes;
                   })
      .def("synchronize", &Session::Synchronize, WithoutLock())
      .def("report", [](Session& self) { return ReportOf(self.session().report()); });
}

// DeltaAttention with all that it is made of.
class OwnedDeltaAttention {
 public:
  OwnedDeltaAttention(const SparsityConfig& config, const SparseGeometry& geometry, uint64_t seed,
                      std::string_view dtype, int threads, std::string_view device)
      : shared_(threads, dtype, device),
        order_(MakeTokenOrder(config.patchify, geometry.grid)),
        selector_(MakeColumnSelector(config.attn, config.patchify, geometry, order_)),
        state_(shared_.context),
        delta_(config.attn, config.should_profile, geometry, *selector_, seed, state_) {
    selector_->MoveTo(shared_.context);
  }

  void Run(bool is_full, const ConstArray& query, const ConstArray& key, const ConstArray& value,
           float scale, const Array& output, uintptr_t stream) {
    CheckApart(output, key, "key");
    CheckApart(output, value, "value");
    shared_.With(stream, [&](Context& context) {
      report_ = {};
      delta_.Run(context, is_full,
                 {.query = ViewOf(query, "query"),
                  .key = ViewOf(key, "key"),
                  .value = ViewOf(value, "value"),
                  .scale = scale},
                 ViewOf(output, "out"), report_);
    });
  }
  void Synchronize() { shared_.Synchronize(); }
  const LayerReport& report() const { return report_; }
  const TokenOrder& order() const { return order_; }

 private:
  SharedContext shared_;
  TokenOrder order_;
  std::unique_ptr<ColumnSelector> selector_;
  StateBuilder state_;
  DeltaAttention delta_;
  LayerReport report_;
};

// DeltaMlp with all that it is made of.
class OwnedDeltaMlp {
 public:
  OwnedDeltaMlp(const SparsityConfig& config, const SparseGeometry& geometry, uint64_t seed,
                std::string_view dtype, int threads, std::string_view device)
      : shared_(threads, dtype, device),
        state_(shared_.context),
        delta_(config.mlp, config.should_profile, geometry, geometry.mlp_tokens.front(), seed,
               state_) {}

  void Run(int64_t step, bool is_full, OwnedMlpWeights& weights, const ConstArray& input,
           const Array& output, uintptr_t stream) {
    shared_.With(stream, [&](Context& context) {
      report_ = {};
      delta_.Run(context, step, is_full, weights.ForSparseSteps(context), ViewOf(input, "input"),
                 ViewOf(output, "out"), report_);
    });
  }
  void Synchronize() { shared_.Synchronize(); }
  const LayerReport& report() const { return report_; }

 private:
  SharedContext shared_;
  StateBuilder state_;
  DeltaMlp delta_;
  LayerReport report_;
};

void BindLayers(nb::module_& module) {
  nb::class_<OwnedDeltaAttention>(module, "DeltaAttention")
      .def(
          "__init__",
          [](OwnedDeltaAttention* made, const SparsityConfig& config,
             const std::array<int64_t, 3>& grid, int64_t num_heads, int64_t head_dim,
             int64_t text_tokens, int64_t batch, uint64_t seed, std::string_view dtype, int threads,
             std::string_view device) {
            const SparseGeometry geometry = {.batch = batch,
                                             .text_tokens = text_tokens,
                                             .grid = GridOf(grid),
                                             .num_layers = 1,
                                             .num_heads = num_heads,
                                             .head_dim = head_dim,
                                             .mlp_tokens = {}};
            new (made) OwnedDeltaAttention(config, geometry, seed, dtype, threads, device);
          },
          "config"_a, "grid"_a, "num_heads"_a, "head_dim"_a, "text_tokens"_a, "batch"_a, "seed"_a,
          "dtype"_a, "threads"_a, "device"_a, WithoutLock())
      .def("run", &OwnedDeltaAttention::Run, "is_full"_a, "query"_a, "key"_a, "value"_a, "scale"_a,
           "out"_a, "stream"_a, WithoutLock())
      .def("synchronize", &OwnedDeltaAttention::Synchronize, WithoutLock())
      .def_prop_ro(
          "sparsity",
          [](const OwnedDeltaAttention& self) { return self.report().attention.Sparsity(); })
      .def_prop_ro("token_order", [](const OwnedDeltaAttention& self) {
        const auto tokens = self.order().tokens();
        return std::vector<int32_t>(tokens.begin(), tokens.end());
      });
  nb::class_<OwnedDeltaMlp>(module, "DeltaMlp")
      .def(
          "__init__",
          [](OwnedDeltaMlp* made, const SparsityConfig& config, int64_t tokens, int64_t model_dim,
             int64_t mlp_dim, bool gated, int64_t batch, uint64_t seed, std::string_view dtype,
             int threads, std::string_view device) {
            const SparseGeometry geometry = {.batch = batch,
                                             .grid = {1, 1, tokens},
                                             .num_layers = 1,
                                             .model_dim = model_dim,
                                             .mlp_dim = mlp_dim,
                                             .gated_mlp = gated,
                                             .mlp_tokens = {tokens}};
            new (made) OwnedDeltaMlp(config, geometry, seed, dtype, threads, device);
          },
          "config"_a, "tokens"_a, "model_dim"_a, "mlp_dim"_a, "gated"_a, "batch"_a, "seed"_a,
          "dtype"_a, "threads"_a, "device"_a, WithoutLock())
      .def("run", &OwnedDeltaMlp::Run, "step"_a, "is_full"_a, "weights"_a, "input"_a, "out"_a,
           "stream"_a, WithoutLock())
      .def("synchronize", &OwnedDeltaMlp::Synchronize, WithoutLock())
      .def_prop_ro("sparsity",
                   [](const OwnedDeltaMlp& self) { return self.report().mlp.Sparsity(); });
}

}  // namespace

void BindSparsity(nb::module_& module) {
  BindConfig(module);
  BindSession(module);
  BindLayers(module);
}

}  // namespace tamias::python
