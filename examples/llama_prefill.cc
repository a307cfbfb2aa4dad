// The prefill of a language model with column-sparse attention, without Python and without
// training:
//
//   llama_prefill MODEL TOKENS [KEEP[:ROWS]...]      llama_prefill smollm2 tokens.txt 0.05 0.1:64
//
// MODEL is a folder of transformers' Llama (config.json, model.safetensors) with plain rotary
// positions and output weights tied to its embeddings; TOKENS a text file of token numbers.
// prefill_model.py makes both. Computed are dense attention and, for each KEEP (a share of the
// columns), sparse attention: time, the loss over the next tokens, and how often both predict the
// same one.
//
// Queries are taken in groups of 192 rows. A group sees its own columns, the 192 before them, and
// of the others before it the KEEP share that draws most attention: ROWS of its rows (16) are
// computed densely, and their column sums rank the columns of each head.
#include <tamias/context.h>
#include <tamias/error.h>
#include <tamias/ops/activation.h>
#include <tamias/ops/attention.h>
#include <tamias/ops/column_sparse_attention.h>
#include <tamias/ops/copy.h>
#include <tamias/ops/distance.h>
#include <tamias/ops/elementwise.h>
#include <tamias/ops/linear.h>
#include <tamias/ops/mask.h>
#include <tamias/ops/norm.h>
#include <tamias/ops/rotary.h>
#include <tamias/ops/top_k.h>
#include <tamias/weights.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

namespace {

using namespace tamias;  // NOLINT: an example

constexpr int64_t kGroupRows = 192;
constexpr int64_t kDenseLayers = 2;  // the first ones, whose attention is spread widest

// Sizes: L tokens, d width, K key heads, G query heads that share one, D head dimension, F MLP
// width.
struct Config {
  int64_t layers, width, key_heads, shared, head_dim, mlp_width;
  float epsilon;
  double theta;
};

Config ReadConfig(const std::string& path) {
  std::ifstream file(path);
  const nlohmann::json json = nlohmann::json::parse(file, nullptr, /*allow_exceptions=*/false);
  for (const char* field :
       {"num_hidden_layers", "hidden_size", "num_attention_heads", "intermediate_size"}) {
    if (!json.contains(field) || !json[field].is_number_integer() || json[field] < 1) {
      throw Error(ErrorCode::kInvalidFile,
                  path + ": field '" + field + "': expected a number above 0");
    }
  }
  const int64_t heads = json.at("num_attention_heads"), width = json.at("hidden_size");
  const int64_t key_heads = json.value("num_key_value_heads", heads);
  const nlohmann::json rope = json.value("rope_parameters", nlohmann::json::object());
  return {.layers = json.at("num_hidden_layers"),
          .width = width,
          .key_heads = key_heads,
          .shared = heads / key_heads,
          .head_dim = json.value("head_dim", width / heads),
          .mlp_width = json.at("intermediate_size"),
          .epsilon = json.value("rms_norm_eps", 1e-6f),
          .theta = rope.value("rope_theta", json.value("rope_theta", 10000.0))};
}

// Adds the seconds of its scope to a sum.
class Timer {
 public:
  explicit Timer(double& sum) : sum_(sum) {}
  ~Timer() {
    sum_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count();
  }
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;

 private:
  double& sum_;
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
};

// Which columns a group of rows sees.
struct Choice {
  double keep = 1;            // share of the columns before it; 1: dense attention
  int64_t sampled_rows = 16;  // of the group, by which they are chosen
};

struct Result {
  Tensor hidden;  // [1, L, d], after the last norm
  double seconds = 0, attention_seconds = 0, selection_seconds = 0;
  double pairs = 0, visible_pairs = 0;  // of queries and keys, computed and in dense attention
};

class Llama {
 public:
  Llama(Context& context, const Config& config, const Weights& weights, int64_t length)
      : context_(context),
        config_(config),
        weights_(weights),
        length_(length),
        cosine_({length, config.head_dim}, DType::kF32),
        sine_({length, config.head_dim}, DType::kF32) {
    for (int64_t i = 0; i < config.head_dim; i += 2) {
      const double exponent = -static_cast<double>(i) / static_cast<double>(config.head_dim);
      for (int64_t token = 0; token < length; ++token) {
        const double angle = static_cast<double>(token) * std::pow(config.theta, exponent);
        for (int64_t j = i; j < i + 2; ++j) {
          cosine_.data<float>()[token * config.head_dim + j] = static_cast<float>(std::cos(angle));
          sine_.data<float>()[token * config.head_dim + j] = static_cast<float>(std::sin(angle));
        }
      }
    }
  }

  Result Run(const std::vector<int64_t>& tokens, const Choice& choice) {
    Result result{.hidden = Embed(tokens)};
    const Timer timer(result.seconds);
    for (int64_t layer = 0; layer < config_.layers; ++layer) {
      const Weights weights = weights_.Sub("layers", layer);
      Attend(weights, layer < kDenseLayers ? Choice() : choice, result);
      FeedForward(weights, result.hidden);
    }
    RmsNorm(context_, result.hidden, weights_.Get("norm.weight"), config_.epsilon, result.hidden);
    return result;
  }

 private:
  Tensor Embed(const std::vector<int64_t>& tokens) const {
    const ConstTensorView table = weights_.Get("embed_tokens.weight");  // [V, d]
    Tensor hidden({1, length_, config_.width}, DType::kF32);
    for (int64_t i = 0; i < length_; ++i) {
      const int64_t token = tokens[static_cast<size_t>(i)];
      Convert(context_, table.Slice(0, token, token + 1).Reshape({1, config_.width}),
              hidden.view().Select(0, 0).Slice(0, i, i + 1));
    }
    return hidden;
  }

  void Project(const Weights& weights, const std::string& name, ConstTensorView input,
               TensorView output, LinearOptions options = {}) const {
    const std::string bias = name + ".bias";
    Linear(context_, input, weights.Get(name + ".weight"),
           weights.Has(bias) ? weights.Get(bias) : ConstTensorView(), output, options);
  }

  TensorView Scratch(const Shape& shape, DType dtype = DType::kF32) const {
    return context_.workspace().Allocate(shape, dtype);
  }

  // [1, L, d] -> [heads, L, D], turned by their positions. Llama turns the pairs (i, i + D/2), the
  // operation adjacent ones: the halves are interleaved, in queries and keys alike.
  TensorView Rotated(const Weights& weights, const std::string& name, ConstTensorView normed,
                     int64_t heads) const {
    const int64_t half = config_.head_dim / 2;
    const TensorView turned = Scratch({1, heads, length_, config_.head_dim});
    Workspace::Scope scope(context_.workspace());
    const TensorView projected = Scratch({1, length_, heads * config_.head_dim});
    Project(weights, name, normed, projected);
    Copy(context_,
         projected.SplitAxis(2, heads, config_.head_dim)
             .SplitAxis(3, 2, half)
             .Permute({0, 2, 1, 4, 3}),
         turned.SplitAxis(3, half, 2));
    RmsNormRotary(context_, turned, {}, 0, cosine_, sine_, turned);
    return turned.Reshape({heads, length_, config_.head_dim});
  }

  // Heads that share a key head lie along H, key heads along B: [K, G, L, D], with stride 0 where
  // they share.
  ConstTensorView Shared(const TensorView& heads) const {  // [K, L, D], any strides
    return {heads.raw(),
            DType::kF32,
            {config_.key_heads, config_.shared, length_, config_.head_dim},
            {heads.stride(0), 0, heads.stride(1), 1}};
  }

  void Attend(const Weights& weights, const Choice& choice, Result& result) const {
    const Workspace::Scope scope(context_.workspace());
    const Weights attention = weights.Sub("self_attn");
    const int64_t heads = config_.key_heads * config_.shared, head_dim = config_.head_dim;
    const TensorView normed = Scratch(result.hidden.shape());
    RmsNorm(context_, result.hidden, weights.Get("input_layernorm.weight"), config_.epsilon,
            normed);
    const TensorView query = Rotated(attention, "q_proj", normed, heads);
    const TensorView key = Rotated(attention, "k_proj", normed, config_.key_heads);
    const TensorView value = Scratch({1, length_, config_.key_heads * head_dim});
    Project(attention, "v_proj", normed, value);
    const TensorView attended = Scratch({1, length_, heads * head_dim});
    const TensorView output =
        attended.Reshape({length_, config_.key_heads, config_.shared, head_dim})
            .Permute({1, 2, 0, 3});
    const AttentionInputs inputs = {
        .query = query.Reshape({config_.key_heads, config_.shared, length_, head_dim}),
        .key = Shared(key),
        .value = Shared(value.Reshape({length_, config_.key_heads, head_dim}).Permute({1, 0, 2})),
        .scale = 1 / std::sqrt(static_cast<float>(head_dim)),
        .causal = true};
    const double visible = static_cast<double>(length_) * static_cast<double>(length_ + 1) / 2;
    result.visible_pairs += static_cast<double>(heads) * visible;
    if (choice.keep >= 1) {
      const Timer timer(result.attention_seconds);
      DenseAttention(context_, inputs, output);
      result.pairs += static_cast<double>(heads) * visible;
    } else {
      AttendSparsely(inputs, choice, output, result);
    }
    Project(attention, "o_proj", attended, result.hidden, {.accumulate = true});
  }

  void AttendSparsely(const AttentionInputs& inputs, const Choice& choice, TensorView output,
                      Result& result) const {
    const int64_t groups = (length_ + kGroupRows - 1) / kGroupRows;
    const int64_t capacity =
        std::llround(choice.keep * static_cast<double>(length_)) + 2 * kGroupRows;
    const TensorView indices =
        Scratch({config_.key_heads, config_.shared, groups, capacity}, DType::kI32);
    const TensorView counts = Scratch({config_.key_heads, config_.shared, groups}, DType::kI32);
    {
      const Timer timer(result.selection_seconds);
      for (int64_t group = 0; group < groups; ++group) {
        result.pairs += Select(inputs, choice, group, indices, counts);
      }
    }
    const Timer timer(result.attention_seconds);
    ColumnSparseAttention(context_, inputs,
                          {.indices = indices, .counts = counts, .group_size = kGroupRows}, {},
                          output);
  }

  // Lists the columns of one group in all heads; returns its pairs.
  double Select(const AttentionInputs& inputs, const Choice& choice, int64_t group,
                TensorView indices, TensorView counts) const {
    const Workspace::Scope scope(context_.workspace());
    const int64_t begin = group * kGroupRows, end = std::min(length_, begin + kGroupRows);
    const int64_t far = std::max<int64_t>(0, begin - kGroupRows);  // columns to choose from
    const int64_t heads = config_.key_heads * config_.shared;
    const int64_t kept = std::llround(choice.keep * static_cast<double>(far));
    const TensorView lists =
        indices.Reshape({heads, indices.dim(2), indices.dim(3)}).Select(1, group);
    if (kept > 0) {
      const TensorView mask = Scratch({heads, MaskBytes(far)}, DType::kU8);
      std::fill_n(mask.host_data<uint8_t>(), mask.NumElements(), uint8_t{0});
      TopKMask(context_, SampledColumnSums(inputs, choice.sampled_rows, far, begin, end), kept,
               mask);
      MaskToIndices(context_, mask, far, lists, Scratch({heads}, DType::kI32));
    }
    for (int64_t head = 0; head < heads; ++head) {
      auto* list = lists.Select(0, head).host_data<int32_t>();
      for (int64_t i = far; i < end; ++i) list[kept + i - far] = static_cast<int32_t>(i);
      counts.host_data<int32_t>()[head * counts.dim(2) + group] =
          static_cast<int32_t>(kept + end - far);
    }
    const double rows = static_cast<double>(end - begin);
    return static_cast<double>(heads) *
           (rows * static_cast<double>(kept + begin - far) + rows * (rows + 1) / 2);
  }

  // The attention that the sampled rows of [begin, end) pay to the first `far` columns:
  // [K * G, far].
  TensorView SampledColumnSums(const AttentionInputs& inputs, int64_t sampled_rows, int64_t far,
                               int64_t begin, int64_t end) const {
    const int64_t step = std::max<int64_t>(1, (end - begin) / sampled_rows);
    const int64_t rows = (end - begin + step - 1) / step;
    const ConstTensorView first = inputs.query.Slice(2, begin, end);
    const Shape shape = {first.dim(0), first.dim(1), rows, first.dim(3)};
    const AttentionInputs sample = {
        .query = {first.raw(),
                  DType::kF32,
                  shape,
                  {first.stride(0), first.stride(1), first.stride(2) * step, 1}},
        .key = inputs.key.Slice(2, 0, far),
        .value = inputs.value.Slice(2, 0, far),
        .scale = inputs.scale};
    const TensorView sums = Scratch({shape[0], shape[1], 1, far});
    const TensorView log_sum_exp = Scratch({shape[0], shape[1], rows});
    const TensorView unused = Scratch(shape);
    DenseAttention(context_, sample, unused, log_sum_exp);
    DenseAttentionColumnSums(context_, sample, log_sum_exp, rows, unused, {}, sums);
    return sums.Reshape({shape[0] * shape[1], far});
  }

  void FeedForward(const Weights& weights, TensorView hidden) const {
    const Workspace::Scope scope(context_.workspace());
    const Weights mlp = weights.Sub("mlp");
    const TensorView normed = Scratch(hidden.shape());
    const TensorView gate = Scratch({1, length_, config_.mlp_width});
    const TensorView up = Scratch(gate.shape());
    RmsNorm(context_, hidden, weights.Get("post_attention_layernorm.weight"), config_.epsilon,
            normed);
    Project(mlp, "gate_proj", normed, gate, {.activation = Activation::kSilu});
    Project(mlp, "up_proj", normed, up);
    Multiply(context_, gate, up, up);
    Project(mlp, "down_proj", up, hidden, {.accumulate = true});
  }

  Context& context_;
  Config config_;
  Weights weights_;
  int64_t length_;
  Tensor cosine_, sine_;
};

// What the model says about each next token: the mean of -log p, and its first choices.
struct Predictions {
  double loss = 0;
  std::vector<int64_t> first;
};

Predictions Predict(Context& context, ConstTensorView embedding, const Tensor& hidden,
                    const std::vector<int64_t>& tokens) {
  constexpr int64_t kRows = 256;
  const int64_t length = hidden.dim(1), vocabulary = embedding.dim(0);
  Tensor logits({kRows, vocabulary}, DType::kF32);
  Predictions result;
  for (int64_t begin = 0; begin + 1 < length; begin += kRows) {
    const int64_t end = std::min(length - 1, begin + kRows);
    Linear(context, hidden.view().Select(0, 0).Slice(0, begin, end), embedding, {},
           logits.view().Slice(0, 0, end - begin));
    for (int64_t i = begin; i < end; ++i) {
      const float* row = logits.data<float>() + (i - begin) * vocabulary;
      const float* largest = std::max_element(row, row + vocabulary);
      double sum = 0;
      for (int64_t j = 0; j < vocabulary; ++j) sum += std::exp(double{row[j]} - double{*largest});
      const float next = row[tokens[static_cast<size_t>(i + 1)]];
      result.loss += std::log(sum) + double{*largest} - double{next};
      result.first.push_back(largest - row);
    }
  }
  result.loss /= static_cast<double>(length - 1);
  return result;
}

double Agreement(const Predictions& a, const Predictions& b) {
  int64_t same = 0;
  for (size_t i = 0; i < a.first.size(); ++i) same += a.first[i] == b.first[i] ? 1 : 0;
  return static_cast<double>(same) / static_cast<double>(a.first.size());
}

Choice ParseChoice(const std::string& text) {
  Choice choice;
  std::istringstream stream(text);
  stream >> choice.keep;
  char colon = ':', rest = 0;
  bool is_read = static_cast<bool>(stream);
  if (stream >> colon) is_read = colon == ':' && stream >> choice.sampled_rows && !(stream >> rest);
  if (!is_read || !(choice.keep > 0 && choice.keep < 1) || choice.sampled_rows < 1 ||
      choice.sampled_rows > kGroupRows) {
    throw Error(ErrorCode::kInvalidArgument,
                "KEEP[:ROWS]: expected a share between 0 and 1, and 1 to 192 rows; found " + text);
  }
  return choice;
}

int Run(int argc, char** argv) {
  const std::string folder = argv[1];
  std::ifstream file(argv[2]);
  std::vector<int64_t> tokens;
  for (int64_t token = 0; file >> token;) tokens.push_back(token);
  std::vector<Choice> choices;
  for (int i = 3; i < argc; ++i) choices.push_back(ParseChoice(argv[i]));
  if (choices.empty()) choices = {ParseChoice("0.05"), ParseChoice("0.1"), ParseChoice("0.2")};

  const Weights all =
      Weights::Open(folder, {.library = WeightLibrary::kTransformers, .variant = ""});
  const Weights weights = all.Has("model.embed_tokens.weight") ? all.Sub("model") : all;
  const ConstTensorView embedding = weights.Get("embed_tokens.weight");
  for (const int64_t token : tokens) {
    if (token < 0 || token >= embedding.dim(0)) {
      throw Error(ErrorCode::kInvalidFile,
                  std::string(argv[2]) + ": token " + std::to_string(token) + ": not in the model");
    }
  }
  if (tokens.size() < 2) {
    throw Error(ErrorCode::kInvalidFile, std::string(argv[2]) + ": expected two tokens at least");
  }
  const Config config = ReadConfig(folder + "/config.json");
  Context context;
  Llama model(context, config, weights, std::ssize(tokens));
  std::printf("%lld tokens, %lld layers, %lld query heads on %lld key heads of %lld\n\n",
              static_cast<long long>(tokens.size()), static_cast<long long>(config.layers),
              static_cast<long long>(config.key_heads * config.shared),
              static_cast<long long>(config.key_heads), static_cast<long long>(config.head_dim));
  model.Run(tokens, {});  // reads the weights from disk
  std::printf("%-9s %4s %8s %10s %10s %8s %8s %8s %9s\n", "keep", "rows", "prefill", "attention",
              "selection", "pairs", "loss", "same", "rel. L2");
  for (const Choice& choice : choices) {
    const Result dense = model.Run(tokens, {});
    const Result sparse = model.Run(tokens, choice);
    const Predictions expected = Predict(context, embedding, dense.hidden, tokens);
    const Predictions found = Predict(context, embedding, sparse.hidden, tokens);
    const Distance distance = MeasureDistance(context, sparse.hidden, dense.hidden);
    std::printf("%-9s %4s %6.2f s %8.2f s %8.2f s %6.1f %% %8.4f\n", "dense", "", dense.seconds,
                dense.attention_seconds, dense.selection_seconds, 100.0, expected.loss);
    std::printf(
        "%-9.3g %4lld %6.2f s %8.2f s %8.2f s %6.1f %% %8.4f %6.1f %% %9.4f\n", choice.keep,
        static_cast<long long>(choice.sampled_rows), sparse.seconds, sparse.attention_seconds,
        sparse.selection_seconds, 100 * sparse.pairs / sparse.visible_pairs, found.loss,
        100 * Agreement(expected, found), std::sqrt(distance.squared / distance.squared_reference));
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    std::fprintf(stderr, "usage: llama_prefill MODEL TOKENS [KEEP[:ROWS]...]\n");
    return 2;
  }
  try {
    return Run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "llama_prefill: %s\n", error.what());
    return 1;
  }
}
