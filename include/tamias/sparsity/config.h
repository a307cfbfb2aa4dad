// The settings of dynamic column sparsity. The YAML keys are those of Chipmunk's
// `chipmunk-config.yml` with their meaning, and a few of ours (marked so). Member names are the
// keys' names. A default-constructed configuration holds the reference's defaults.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "tamias/dtype.h"
#include "tamias/placement.h"

namespace tamias {

enum class AttentionMerge : uint8_t {
  kAdditive,  // o_cache + A_S, the published form
  kLse,       // merged by log-sum-exp: the stale part keeps its exact weight as scores move (ours)
  kPooled,    // merged with what mean rows give on the step itself: no output is kept (ours)
};

std::string_view Name(AttentionMerge merge);  // "additive", "lse", "pooled"

// Whose column sums rank the columns.
enum class ColumnSums : uint8_t {
  kExact,   // of all rows, on full steps, with the log-sum-exp of the one before: as published
  kPooled,  // of mean rows, an estimate that any step can afford (ours)
};

std::string_view Name(ColumnSums sums);  // "exact", "pooled"

// What a skipped step is computed from.
enum class StepReuse : uint8_t {
  // The hidden state of the last step that ran: it goes through the model's last layer with the
  // skipped step's own modulation. The published form.
  kHidden,
  kPrediction,  // the last prediction as it is (ours)
  // The line through the last two predictions, read off at the skipped step's noise level (ours).
  kExtrapolate,
};

std::string_view Name(StepReuse reuse);  // "hidden", "prediction", "extrapolate"

struct SparsityConfig {
  // Model calls per denoising step: 2 with classifier-free guidance. A generation knows by itself
  // how many it has; ConfigWarnings tells where this says otherwise.
  int64_t num_model_invocations_per_inference_step = 1;
  int64_t steps = 50;            // the number of steps the schedules below are written for
  int64_t world_size = 1;        // no effect: one process on one device
  int64_t generation_index = 0;  // the reference's output numbering; no effect
  bool should_profile = false;   // measure drift over all heads and rows, not a sample

  struct Mlp {
    bool is_enabled = true;
    bool is_fp8 = false;           // as MlpWeights::is_fp8
    double top_keys = 0.3;         // share of the neurons recomputed on a sparse step
    double random_keys = 0.05;     // probability of each further neuron
    int64_t full_step_every = 10;  // all neurons on steps divisible by this
    int64_t block_mask_cache = 2;  // steps for which a selection serves, from step 10 on
    int64_t first_n_dense_layers = 2;
    int64_t counts_multiple_of = 256;  // top_keys * F is rounded to a multiple of this
    int64_t bm = 128;                  // rows of a GPU tile; no effect: kernels have their own
    int64_t mbm = 128;                 // rows that share one selection
  } mlp;

  struct Patchify {
    bool is_enabled = true;
    int64_t chunk_size_1 = 8;  // side of the outer patches, in tokens
    int64_t chunk_size_2 = 4;  // side of the inner patches
  } patchify;

  struct Attention {
    bool is_enabled = true;
    double top_keys = 0.05;     // share of the key columns each query group keeps
    double random_keys = 0.01;  // probability of each further column
    int64_t local_voxels = 0;   // side, in voxels, of the window around a group that it always sees
    double local_1d_window = 0;  // length, as a share of N, of the run of tokens it always sees
    int64_t first_n_dense_layers = 2;
    int64_t full_step_every = 10;
    std::optional<std::set<int64_t>> full_step_schedule;  // replaces full_step_every
    bool recompute_mask = true;           // select anew at every full step, not once
    bool should_compress_indices = true;  // keep selections as bits (1/32 of the memory)
    int64_t counts_multiple_of = 128;     // top_keys * N is rounded to a multiple of this
    bool pad_qkv_before_kernel = true;    // no effect: kernels take any number of tokens
    int64_t mbm = 192;                    // query rows of a group
    AttentionMerge merge = AttentionMerge::kAdditive;  // ours
    ColumnSums column_sums = ColumnSums::kExact;       // ours
    // Ours: how the output cache is stored, f32 or bf16; on a GPU it has the activations' 16 bits.
    DType cache_dtype = DType::kF32;

    // How many steps at the beginning must be full for sparse ones to follow: two for exact column
    // sums (log-sum-exp, then sums), one for a cache, none where both are pooled.
    int64_t FirstFullSteps() const;
  } attn;

  // Where the reference keeps state between steps (GPU or host memory); no effect: it stays on the
  // device.
  struct Offloading {
    bool global_disable_offloading = false;
    bool mlp_out_cache = false;
    bool mlp_indices = false;
    bool mlp_counts = false;
    bool mlp_sparse_act_T = false;  // NOLINT: the reference's name
    bool mlp_blockmean_mid_cache = false;
    bool attn_out_cache = true;
    bool attn_indices = true;
    bool attn_counts = false;
    bool attn_lse_constants = false;
    bool text_encoders = true;
  } offloading;

  struct StepCaching {
    bool is_enabled = false;
    std::set<int64_t> skip_step_schedule = {7,  11, 13, 14, 15, 17, 18, 19, 21, 22, 23, 25, 26,
                                            27, 29, 31, 33, 34, 35, 37, 38, 39, 41, 42, 43};
    // Ours: also skip a step while the relative change of the first block's modulated input, summed
    // since the last step run, stays below this. 0: by schedule only.
    double threshold = 0;
    StepReuse reuse = StepReuse::kHidden;  // ours; the reference knows the hidden state alone
  } step_caching;

  // The dotted names of the keys that a file or Apply has set; ConfigWarnings speaks of these.
  std::set<std::string, std::less<>> keys_set;
  // Those of Apply alone: asked for one by one, so that they are meant to do something.
  std::set<std::string, std::less<>> keys_applied;

  // Everything off: the plain model, no state.
  static SparsityConfig Dense();
  // Whether any of attention, MLP and step caching is on.
  bool IsAnythingEnabled() const;
};

// Reads a YAML file. Throws kInvalidFile for unknown keys (naming the nearest known one), values of
// another type or out of range: "path:7: key 'attn.topkeys': unknown; did you mean
// 'attn.top_keys'?". Absent keys keep their defaults.
SparsityConfig LoadSparsityConfig(const std::filesystem::path& path);
// The same from text; `source` stands for the path in messages.
SparsityConfig ParseSparsityConfig(std::string_view text, std::string source);

// Sets one key: "attn.top_keys=0.1", "attn.full_step_schedule={0, 1, 10}",
// "attn.full_step_schedule=null". Throws kInvalidArgument.
void Apply(SparsityConfig& config, std::string_view assignment);

// Every key with its value, in the reference's layout; ParseSparsityConfig reads it back.
std::string WriteYaml(const SparsityConfig& config);

// The generation that a configuration is for, as far as it is known.
struct ConfigUse {
  Placement placement = {};
  int64_t num_steps = 0;        // 0: not known yet
  int64_t num_invocations = 0;  // model calls per step; 0: not known yet
  int64_t restart = 0;          // the step at which another model takes over; 0: none does
};

// One sentence for each key in keys_set that asks for something the device does not do or that the
// generation contradicts, for each key in keys_applied whose section is off, and for schedules that
// do not fit it.
std::vector<std::string> ConfigWarnings(const SparsityConfig& config, const ConfigUse& use = {});

// The dotted names of all keys, in the order of the file.
std::vector<std::string> SparsityConfigKeys();

// The file of a profile: `name`.yml in $TAMIAS_CONFIGS or else in the folder of shipped profiles,
// of which a process has one: configs/ beside the shared object that holds this library (the Python
// package); PREFIX/share/tamias/configs where the program is PREFIX/bin/NAME and this exists; for a
// program in the build tree the source tree's configs/; else the data folder of the configured
// prefix. Throws kNotFound listing the profiles there are.
std::filesystem::path FindProfile(std::string_view name);
std::vector<std::string> ListProfiles();

}  // namespace tamias
