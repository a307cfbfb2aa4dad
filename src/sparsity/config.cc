// One table describes every key: its name, how its value is read and written, and what to say when
// it can have no effect here. Loading, --set, writing and warnings all follow the table.
#include "tamias/sparsity/config.h"

#include <algorithm>
#include <array>
#include <functional>
#include <set>
#include <utility>

#include "base/check.h"
#include "io/yaml.h"
#include "tamias/text.h"

namespace tamias {
namespace {

// Why a key changes nothing on a device, or "" where it has an effect.
struct NoEffect {
  std::string_view on_cpu = {};
  std::string_view on_gpu = {};
  std::string_view in_16_bits = {};  // on either, where that is what activations have; goes first
};

struct Key {
  std::string_view name;  // "attn.top_keys"
  std::function<void(const YamlNode&, SparsityConfig&)> read;
  std::function<std::string(const SparsityConfig&)> write;
  NoEffect no_effect = {};
};

// `member` is a callable from a configuration (const or not) to a reference to the value.
template <typename Member>
Key BoolKey(std::string_view name, Member member, NoEffect no_effect = {}) {
  return {name, [member](const YamlNode& node, SparsityConfig& c) { member(c) = node.Bool(); },
          [member](const SparsityConfig& c) { return member(c) ? "true" : "false"; }, no_effect};
}

template <typename Member>
Key IntKey(std::string_view name, Member member, IntRange range, NoEffect no_effect = {}) {
  return {name,
          [member, range](const YamlNode& node, SparsityConfig& c) { member(c) = node.Int(range); },
          [member](const SparsityConfig& c) { return fmt::format("{}", member(c)); }, no_effect};
}

template <typename Member>
Key FloatKey(std::string_view name, Member member, FloatRange range) {
  return {
      name,
      [member, range](const YamlNode& node, SparsityConfig& c) { member(c) = node.Float(range); },
      [member](const SparsityConfig& c) { return fmt::format("{}", member(c)); }};
}

constexpr int64_t kMaxSteps = 100000;

std::set<int64_t> ReadSteps(const YamlNode& node) {
  const std::vector<int64_t> steps = node.IntList({0, kMaxSteps});
  return {steps.begin(), steps.end()};
}

std::string WriteSteps(const std::set<int64_t>& steps) {
  return fmt::format("[{}]", fmt::join(steps, ", "));
}

// The names of an enumeration's values, in the order in which messages list them.
template <typename Value, size_t kCount>
using Names = std::array<std::pair<std::string_view, Value>, kCount>;

constexpr Names<AttentionMerge, 3> kMerges = {{{"additive", AttentionMerge::kAdditive},
                                               {"lse", AttentionMerge::kLse},
                                               {"pooled", AttentionMerge::kPooled}}};
constexpr Names<ColumnSums, 2> kColumnSums = {
    {{"exact", ColumnSums::kExact}, {"pooled", ColumnSums::kPooled}}};
constexpr Names<StepReuse, 3> kReuses = {{{"hidden", StepReuse::kHidden},
                                          {"prediction", StepReuse::kPrediction},
                                          {"extrapolate", StepReuse::kExtrapolate}}};

template <typename Value, size_t kCount>
std::string_view NameIn(const Names<Value, kCount>& names, Value value) {
  const auto found = std::ranges::find(names, value, &std::pair<std::string_view, Value>::second);
  return found == names.end() ? "?" : found->first;
}

// `member` as below.
template <typename Value, size_t kCount, typename Member>
Key NameKey(std::string_view key, const Names<Value, kCount>& names, Member member) {
  const auto read = [&names, member](const YamlNode& node, SparsityConfig& config) {
    const std::string value = node.String();
    std::string expected;
    for (size_t i = 0; i < kCount; ++i) {
      if (names[i].first == value) {
        member(config) = names[i].second;
        return;
      }
      expected += i == 0 ? "" : i + 1 < kCount ? ", " : " or ";
      expected += names[i].first;
    }
    node.Fail(fmt::format("expected {}, found '{}'", expected, value));
  };
  return {key, read, [&names, member](const SparsityConfig& config) {
            return std::string(NameIn(names, member(config)));
          }};
}

void ReadCacheDType(const YamlNode& node, SparsityConfig& config) {
  const std::string value = node.String();
  if (value != Name(DType::kF32) && value != Name(DType::kBF16)) {
    node.Fail(fmt::format("expected f32 or bf16, found '{}'", value));
  }
  config.attn.cache_dtype = value == Name(DType::kF32) ? DType::kF32 : DType::kBF16;
}

#define MEMBER(path) \
  [](auto& c) -> auto& { return c.path; }

constexpr NoEffect kOneMachine = {"one process on one CPU", "one process on one GPU"};
constexpr NoEffect kNoOutputNumbering = {"outputs are named by --output",
                                         "outputs are named by --output"};
constexpr NoEffect kNoTiles = {"tile sizes belong to GPU kernels",
                               "the kernels choose their tiles themselves"};
constexpr NoEffect kNoPadding = {"the kernels take any number of tokens",
                                 "the kernels take any number of tokens"};
constexpr NoEffect kNoOffloading = {"state is in main memory already",
                                    "the plan decides, for whole layers (max_gpu_memory)"};
constexpr NoEffect kCacheOfActivations = {.in_16_bits =
                                              "the caches have the type of the activations"};

void AppendGeneralKeys(std::vector<Key>& keys) {
  keys.push_back(IntKey("num_model_invocations_per_inference_step",
                        MEMBER(num_model_invocations_per_inference_step), {1, 16}));
  keys.push_back(IntKey("steps", MEMBER(steps), {1, kMaxSteps}));
  keys.push_back(IntKey("world_size", MEMBER(world_size), {1, 1024}, kOneMachine));
  keys.push_back(
      IntKey("generation_index", MEMBER(generation_index), {0, INT64_MAX}, kNoOutputNumbering));
  keys.push_back(BoolKey("should_profile", MEMBER(should_profile)));
}

void AppendMlpKeys(std::vector<Key>& keys) {
  keys.push_back(BoolKey("mlp.is_enabled", MEMBER(mlp.is_enabled)));
  keys.push_back(BoolKey("mlp.is_fp8", MEMBER(mlp.is_fp8)));
  keys.push_back(FloatKey("mlp.top_keys", MEMBER(mlp.top_keys), {0, 1}));
  keys.push_back(FloatKey("mlp.random_keys", MEMBER(mlp.random_keys), {0, 1}));
  keys.push_back(IntKey("mlp.full_step_every", MEMBER(mlp.full_step_every), {1, kMaxSteps}));
  keys.push_back(IntKey("mlp.block_mask_cache", MEMBER(mlp.block_mask_cache), {1, kMaxSteps}));
  keys.push_back(IntKey("mlp.first_n_dense_layers", MEMBER(mlp.first_n_dense_layers), {0, 100000}));
  keys.push_back(IntKey("mlp.counts_multiple_of", MEMBER(mlp.counts_multiple_of), {1, 1 << 20}));
  keys.push_back(IntKey("mlp.bm", MEMBER(mlp.bm), {1, 1 << 20}, kNoTiles));
  keys.push_back(IntKey("mlp.mbm", MEMBER(mlp.mbm), {1, 4096}));
}

void AppendPatchifyKeys(std::vector<Key>& keys) {
  keys.push_back(BoolKey("patchify.is_enabled", MEMBER(patchify.is_enabled)));
  keys.push_back(IntKey("patchify.chunk_size_1", MEMBER(patchify.chunk_size_1), {1, 4096}));
  keys.push_back(IntKey("patchify.chunk_size_2", MEMBER(patchify.chunk_size_2), {1, 4096}));
}

void ReadFullSteps(const YamlNode& node, SparsityConfig& config) {
  config.attn.full_step_schedule.reset();
  if (!node.IsNull()) config.attn.full_step_schedule = ReadSteps(node);
}

std::string WriteFullSteps(const SparsityConfig& config) {
  const auto& steps = config.attn.full_step_schedule;
  return steps.has_value() ? WriteSteps(*steps) : "null";
}

void AppendAttentionKeys(std::vector<Key>& keys) {
  keys.push_back(BoolKey("attn.is_enabled", MEMBER(attn.is_enabled)));
  keys.push_back(FloatKey("attn.top_keys", MEMBER(attn.top_keys), {0, 1}));
  keys.push_back(FloatKey("attn.random_keys", MEMBER(attn.random_keys), {0, 1}));
  keys.push_back(IntKey("attn.local_voxels", MEMBER(attn.local_voxels), {0, 4096}));
  keys.push_back(FloatKey("attn.local_1d_window", MEMBER(attn.local_1d_window), {0, 1}));
  keys.push_back(
      IntKey("attn.first_n_dense_layers", MEMBER(attn.first_n_dense_layers), {0, 100000}));
  keys.push_back(IntKey("attn.full_step_every", MEMBER(attn.full_step_every), {1, kMaxSteps}));
  keys.push_back({"attn.full_step_schedule", ReadFullSteps, WriteFullSteps});
  keys.push_back(BoolKey("attn.recompute_mask", MEMBER(attn.recompute_mask)));
  keys.push_back(BoolKey("attn.should_compress_indices", MEMBER(attn.should_compress_indices)));
  keys.push_back(IntKey("attn.counts_multiple_of", MEMBER(attn.counts_multiple_of), {1, 1 << 20}));
  keys.push_back(
      BoolKey("attn.pad_qkv_before_kernel", MEMBER(attn.pad_qkv_before_kernel), kNoPadding));
  keys.push_back(IntKey("attn.mbm", MEMBER(attn.mbm), {1, 4096}));
  keys.push_back(NameKey("attn.merge", kMerges, MEMBER(attn.merge)));
  keys.push_back(NameKey("attn.column_sums", kColumnSums, MEMBER(attn.column_sums)));
  keys.push_back({"attn.cache_dtype", ReadCacheDType,
                  [](const SparsityConfig& c) { return std::string(Name(c.attn.cache_dtype)); },
                  kCacheOfActivations});
}

void AppendOffloadingKeys(std::vector<Key>& keys) {
  const auto add = [&keys](std::string_view name, auto member) {
    keys.push_back(BoolKey(name, member, kNoOffloading));
  };
  add("offloading.global_disable_offloading", MEMBER(offloading.global_disable_offloading));
  add("offloading.mlp.out_cache", MEMBER(offloading.mlp_out_cache));
  add("offloading.mlp.indices", MEMBER(offloading.mlp_indices));
  add("offloading.mlp.counts", MEMBER(offloading.mlp_counts));
  add("offloading.mlp.sparse_act_T", MEMBER(offloading.mlp_sparse_act_T));
  add("offloading.mlp.blockmean_mid_cache", MEMBER(offloading.mlp_blockmean_mid_cache));
  add("offloading.attn.out_cache", MEMBER(offloading.attn_out_cache));
  add("offloading.attn.indices", MEMBER(offloading.attn_indices));
  add("offloading.attn.counts", MEMBER(offloading.attn_counts));
  add("offloading.attn.lse_constants", MEMBER(offloading.attn_lse_constants));
  add("offloading.text_encoders", MEMBER(offloading.text_encoders));
}

void AppendStepCachingKeys(std::vector<Key>& keys) {
  keys.push_back(BoolKey("step_caching.is_enabled", MEMBER(step_caching.is_enabled)));
  keys.push_back(
      {"step_caching.skip_step_schedule",
       [](const YamlNode& node, SparsityConfig& c) {
         c.step_caching.skip_step_schedule = ReadSteps(node);
       },
       [](const SparsityConfig& c) { return WriteSteps(c.step_caching.skip_step_schedule); }});
  keys.push_back(FloatKey("step_caching.threshold", MEMBER(step_caching.threshold), {0, 1e6}));
  keys.push_back(NameKey("step_caching.reuse", kReuses, MEMBER(step_caching.reuse)));
}

#undef MEMBER

const std::vector<Key>& Keys() {
  static const std::vector<Key> keys = [] {
    std::vector<Key> all;
    AppendGeneralKeys(all);
    AppendMlpKeys(all);
    AppendPatchifyKeys(all);
    AppendAttentionKeys(all);
    AppendOffloadingKeys(all);
    AppendStepCachingKeys(all);
    return all;
  }();
  return keys;
}

const Key* FindKey(std::string_view name) {
  const auto found = std::ranges::find(Keys(), name, &Key::name);
  return found == Keys().end() ? nullptr : &*found;
}

// "attn" of "attn.top_keys", "" of "steps".
std::string_view SectionOf(std::string_view name) {
  const size_t dot = name.find('.');
  return dot == std::string_view::npos ? std::string_view{} : name.substr(0, dot);
}

// The first key of a section; null: there is no such section.
const Key* FirstKeyOf(std::string_view section) {
  const auto found =
      std::ranges::find(Keys(), section, [](const Key& key) { return SectionOf(key.name); });
  return found == Keys().end() ? nullptr : &*found;
}

bool IsSection(std::string_view name) { return FirstKeyOf(name) != nullptr; }

// The "is_enabled" of a key's section where that is false, so that the key has no effect; else
// null.
const Key* SwitchOf(const Key& key, const SparsityConfig& config) {
  const Key* is_enabled = FindKey(fmt::format("{}.is_enabled", SectionOf(key.name)));
  if (is_enabled == nullptr || is_enabled->name == key.name) return nullptr;
  return is_enabled->write(config) == "false" ? is_enabled : nullptr;
}

// "unknown; did you mean 'attn.top_keys'?", or "a section; ..."
std::string UnknownKey(std::string_view name) {
  if (!name.empty() && IsSection(name)) {
    return fmt::format("a section; expected one of its keys, such as '{}'", FirstKeyOf(name)->name);
  }
  std::vector<std::string_view> known;
  for (const Key& key : Keys()) {
    const std::string_view section = SectionOf(key.name);
    if (!section.empty() && (known.empty() || SectionOf(known.back()) != section)) {
      known.push_back(section);
    }
    known.push_back(key.name);
  }
  const std::string nearest = NearestName(name, known);
  return nearest.empty() ? "unknown" : fmt::format("unknown; did you mean '{}'?", nearest);
}

void ReadKey(const std::string& name, const YamlNode& node, SparsityConfig& config) {
  const Key* key = FindKey(name);
  if (key == nullptr) node.Fail(UnknownKey(name));
  key->read(node, config);
  config.keys_set.insert(name);
}

SparsityConfig FromYaml(const YamlNode& root) {
  SparsityConfig config;
  for (const auto& [name, node] : root.Entries()) {
    if (!IsSection(name)) {
      ReadKey(name, node, config);
      continue;
    }
    for (const auto& [key, value] : node.Entries()) ReadKey(name + "." + key, value, config);
  }
  return config;
}

}  // namespace

std::string_view Name(AttentionMerge merge) { return NameIn(kMerges, merge); }

std::string_view Name(ColumnSums sums) { return NameIn(kColumnSums, sums); }

std::string_view Name(StepReuse reuse) { return NameIn(kReuses, reuse); }

int64_t SparsityConfig::Attention::FirstFullSteps() const {
  if (column_sums == ColumnSums::kExact) return 2;
  return merge == AttentionMerge::kPooled ? 0 : 1;
}

SparsityConfig SparsityConfig::Dense() {
  SparsityConfig config;
  config.mlp.is_enabled = false;
  config.attn.is_enabled = false;
  config.patchify.is_enabled = false;
  config.step_caching.is_enabled = false;
  return config;
}

bool SparsityConfig::IsAnythingEnabled() const {
  return attn.is_enabled || mlp.is_enabled || step_caching.is_enabled;
}

SparsityConfig LoadSparsityConfig(const std::filesystem::path& path) {
  return FromYaml(YamlNode::Load(path));
}

SparsityConfig ParseSparsityConfig(std::string_view text, std::string source) {
  return FromYaml(YamlNode::Parse(text, std::move(source)));
}

void Apply(SparsityConfig& config, std::string_view assignment) {
  const size_t equals = assignment.find('=');
  if (equals == std::string_view::npos || equals == 0) {
    Fail(ErrorCode::kInvalidArgument, "setting '{}': expected key=value", assignment);
  }
  const std::string name(assignment.substr(0, equals));
  if (FindKey(name) == nullptr) {
    Fail(ErrorCode::kInvalidArgument, "setting '{}': key '{}': {}", assignment, name,
         UnknownKey(name));
  }
  const std::string source = fmt::format("setting '{}'", assignment);
  try {
    const YamlNode root =
        YamlNode::Parse(fmt::format("{}: {}", name, assignment.substr(equals + 1)), source);
    const auto entries = root.Entries();
    if (entries.size() != 1) root.Fail("expected one value");
    ReadKey(name, entries.front().second, config);
    config.keys_applied.insert(name);
  } catch (const Error& error) {  // a bad argument, not a bad file; and there is only one line
    std::string message = error.what();
    const size_t line = message.find(":1: ", source.size());
    if (line == source.size()) message.erase(line + 1, 2);
    throw Error(ErrorCode::kInvalidArgument, message);
  }
}

std::string WriteYaml(const SparsityConfig& config) {
  std::string text;
  std::string_view open_section;
  for (const Key& key : Keys()) {
    const std::string_view section = SectionOf(key.name);
    if (section != open_section && !section.empty()) text += fmt::format("{}:\n", section);
    open_section = section;
    const std::string_view name = section.empty() ? key.name : key.name.substr(section.size() + 1);
    text += fmt::format("{}{}: {}\n", section.empty() ? "" : "  ", name, key.write(config));
  }
  return text;
}

std::vector<std::string> ConfigWarnings(const SparsityConfig& config, const ConfigUse& use) {
  std::vector<std::string> warnings;
  for (const Key& key : Keys()) {
    if (!config.keys_set.contains(key.name)) continue;
    const Key* is_off = SwitchOf(key, config);
    if (is_off != nullptr && config.keys_applied.contains(key.name)) {
      warnings.push_back(fmt::format("{}: {} has no effect: {} is false", key.name,
                                     key.write(config), is_off->name));
      continue;
    }
    std::string_view reason = use.placement.IsOnGpu() ? key.no_effect.on_gpu : key.no_effect.on_cpu;
    const bool is_narrow = use.placement.activation_dtype != DType::kF32;
    if (is_narrow && !key.no_effect.in_16_bits.empty()) reason = key.no_effect.in_16_bits;
    if (reason.empty()) continue;
    const std::string value = key.write(config);
    const bool asks_for_nothing = value == "false" || value == "1" || value == "0";
    if (asks_for_nothing) continue;
    warnings.push_back(fmt::format("{}: {} has no effect: {}", key.name, value, reason));
  }
  constexpr std::string_view kInvocations = "num_model_invocations_per_inference_step";
  const int64_t invocations = config.num_model_invocations_per_inference_step;
  if (use.num_invocations > 0 && invocations != use.num_invocations &&
      config.keys_set.contains(kInvocations)) {
    warnings.push_back(
        fmt::format("{}: {} has no effect: this generation calls the model {} a step", kInvocations,
                    invocations, use.num_invocations == 1 ? "once" : "twice"));
  }
  if (config.mlp.is_enabled && config.mlp.is_fp8 && !use.placement.IsOnGpu()) {
    warnings.emplace_back(
        "mlp.is_fp8: no processor multiplies 8-bit floats: rounding to them costs time here");
  }
  // Of activations in 16 bits it was said above.
  if (config.attn.merge == AttentionMerge::kPooled &&
      config.keys_set.contains("attn.cache_dtype") &&
      use.placement.activation_dtype == DType::kF32) {
    warnings.push_back(
        fmt::format("attn.cache_dtype: {} has no effect: with attn.merge: pooled nothing is cached",
                    Name(config.attn.cache_dtype)));
  }
  // An empty schedule fits any number of steps.
  const bool has_schedule =
      (config.attn.is_enabled && config.attn.full_step_schedule.has_value() &&
       !config.attn.full_step_schedule->empty()) ||
      (config.step_caching.is_enabled && !config.step_caching.skip_step_schedule.empty());
  if (use.num_steps > 0 && use.num_steps != config.steps && has_schedule) {
    warnings.push_back(
        fmt::format("steps: the schedules are written for {} steps and this generation has {}; "
                    "they are used as they are",
                    config.steps, use.num_steps));
  }
  for (const int64_t first : std::set{int64_t{0}, use.restart}) {
    if (config.step_caching.is_enabled && config.step_caching.skip_step_schedule.contains(first)) {
      warnings.push_back(fmt::format(
          "step_caching.skip_step_schedule: step {} cannot be skipped and is run", first));
    }
  }
  return warnings;
}

std::vector<std::string> SparsityConfigKeys() {
  std::vector<std::string> names;
  for (const Key& key : Keys()) names.emplace_back(key.name);
  return names;
}

}  // namespace tamias
