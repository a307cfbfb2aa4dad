// Each weight has the list of what is added to it, over all LoRAs, and one function that does so.
#include "models/lora/apply_loras.h"

#include <cmath>
#include <limits>
#include <map>
#include <optional>
#include <utility>

#include "base/check.h"
#include "io/float_values.h"
#include "io/one_line.h"
#include "models/lora/lora_targets.h"
#include "tamias/ops/copy.h"
#include "tamias/ops/elementwise.h"
#include "tamias/ops/linear.h"

namespace tamias {
namespace {

// Rows [up_begin, up_begin + rows) of scale B A, added to a weight from row `begin` on.
struct Addend {
  size_t lora = 0;                       // its place in the list
  std::shared_ptr<const LoraFile> file;  // keeps the layer
  const LoraLayer* layer = nullptr;
  double scale = 1;
  int64_t up_begin = 0, rows = 0, begin = 0;
};

void Add(Context& context, const Addend& addend, const TensorView& sum) {
  const LoraLayer& layer = *addend.layer;
  const ConstTensorView rows = layer.up.Slice(0, addend.up_begin, addend.up_begin + addend.rows);
  Tensor up = Converted(context, rows, DType::kF32);
  ScaleShift(context, up, static_cast<float>(addend.scale), 0, up);
  const Tensor down = Converted(context, layer.down, DType::kF32);
  Tensor transposed({down.view().dim(1), down.view().dim(0)}, DType::kF32);
  Copy(context, down.view().Permute({1, 0}), transposed);
  Linear(context, up, transposed, {}, sum.Slice(0, addend.begin, addend.begin + addend.rows),
         {.accumulate = true});
}

// A weight that is not finite itself is left to who checks the model's weights.
Tensor Merged(const ConstTensorView& weight, const std::vector<Addend>& addends) {
  Context context;
  Tensor sum = Converted(context, weight, DType::kF32);
  for (const Addend& addend : addends) {
    Add(context, addend, sum);
    addend.file->GiveBack();
  }
  if (weight.dtype() != DType::kF32) sum = Converted(context, sum.view(), weight.dtype());
  const int64_t count = weight.NumElements();
  if (HasNonFinite(sum.view(), 0, count) && !HasNonFinite(weight, 0, count)) {
    const Addend& last = addends.back();
    last.file->FailLayer(
        *last.layer, fmt::format("added times {:g}, the weight leaves the range of {}", last.scale,
                                 Name(weight.dtype())));
  }
  return sum;
}

// Adds what a layer changes to the lists of its weights.
void AddLayer(const Weights& weights, const LoraTargets& names, const ScaledLora& lora,
              size_t index, const LoraLayer& layer,
              std::map<std::string, std::vector<Addend>>& addends) {
  const auto fail = [&](std::string_view problem) { lora.file->FailLayer(layer, problem); };
  const std::vector<LoraTarget>* targets = names.Find(layer.name, layer.is_joined);
  if (targets == nullptr) {
    fail(fmt::format("{} has no linear layer '{}': the LoRA is of another model",
                     weights.folder().string(), OneLine(layer.name)));
  }
  int64_t rows = 0;
  for (const LoraTarget& target : *targets) rows += target.rows;
  const int64_t inputs = weights.Dims(targets->front().weight).at(1);
  if (layer.up.dim(0) != rows || layer.down.dim(1) != inputs) {
    fail(fmt::format("expected factors of a layer {}, found {}: the LoRA is of another model",
                     Shape{rows, inputs}.ToString(),
                     Shape{layer.up.dim(0), layer.down.dim(1)}.ToString()));
  }
  const double scale = lora.scale * layer.scale;
  if (!(std::abs(scale) <= double{std::numeric_limits<float>::max()})) {
    fail(fmt::format("the scale {:g} is beyond fp32", scale));
  }
  int64_t up_begin = 0;
  for (const LoraTarget& target : *targets) {
    std::vector<Addend>& of_weight = addends[target.weight];
    for (const Addend& other : of_weight) {
      const bool overlap =
          other.begin < target.begin + target.rows && target.begin < other.begin + other.rows;
      if (other.lora == index && overlap) {
        fail(fmt::format("changes the same weight as '{}'", OneLine(other.layer->up_name)));
      }
    }
    of_weight.push_back({index, lora.file, &layer, scale, up_begin, target.rows, target.begin});
    up_begin += target.rows;
  }
}

}  // namespace

Weights ApplyLoras(const Weights& weights, const std::string& component,
                   const std::vector<ScaledLora>& loras) {
  std::optional<LoraTargets> names;
  std::map<std::string, std::vector<Addend>> addends;
  for (size_t i = 0; i < loras.size(); ++i) {
    const ScaledLora& lora = loras[i];
    if (lora.scale == 0) continue;
    for (const LoraLayer& layer : lora.file->layers()) {
      if (layer.component != component) continue;
      if (!names) names.emplace(weights);
      AddLayer(weights, *names, lora, i, layer, addends);
    }
  }
  if (addends.empty()) return weights;
  std::map<std::string, Weights::Change, std::less<>> changes;
  for (auto& [weight, of_weight] : addends) {
    changes.emplace(weight, [of_weight = std::move(of_weight)](ConstTensorView original) {
      return Merged(original, of_weight);
    });
  }
  return weights.WithChanges(std::move(changes));
}

}  // namespace tamias
