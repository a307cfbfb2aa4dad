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
#include "tamias/ops/linear.h"

namespace tamias {
namespace {

// Rows [up_begin, up_begin + rows) of scale B A, added to a weight from row `begin` on.
struct Addend {
  size_t lora = 0;                       // its place in the list
  std::shared_ptr<const LoraFile> file;  // keeps the factors
  std::string up_name;                   // for messages
  ConstTensorView down, up;
  double scale = 1;
  int64_t up_begin = 0, rows = 0, begin = 0;
};

// scale times rows of a matrix, in f32.
Tensor Scaled(const ConstTensorView& matrix, int64_t begin, int64_t rows, double scale) {
  const int64_t width = matrix.dim(1);
  Tensor result({rows, width}, DType::kF32);
  for (int64_t i = 0; i < rows * width; ++i) {
    result.data<float>()[i] = static_cast<float>(scale) * ElementOf(matrix, begin * width + i);
  }
  return result;
}

Tensor Transposed(const ConstTensorView& matrix) {
  const int64_t rows = matrix.dim(0), columns = matrix.dim(1);
  Tensor result({columns, rows}, DType::kF32);
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < columns; ++j) {
      result.data<float>()[j * rows + i] = ElementOf(matrix, i * columns + j);
    }
  }
  return result;
}

[[noreturn]] void FailTensor(const LoraFile& file, const std::string& name,
                             std::string_view problem) {
  Fail(ErrorCode::kInvalidFile, "{}: tensor '{}': {}", file.path().string(), OneLine(name),
       problem);
}

// A weight that is not finite itself is left to who checks the model's weights.
Tensor Merged(const ConstTensorView& weight, const std::vector<Addend>& addends) {
  Context context;
  Tensor sum = Converted(context, weight, DType::kF32);
  for (const Addend& addend : addends) {
    const Tensor up = Scaled(addend.up, addend.up_begin, addend.rows, addend.scale);
    Linear(context, up.view(), Transposed(addend.down).view(), {},
           sum.view().Slice(0, addend.begin, addend.begin + addend.rows), {.accumulate = true});
  }
  for (const Addend& addend : addends) addend.file->GiveBack();
  if (weight.dtype() != DType::kF32) sum = Converted(context, sum.view(), weight.dtype());
  const int64_t count = weight.NumElements();
  if (HasNonFinite(sum.view(), 0, count) && !HasNonFinite(weight, 0, count)) {
    FailTensor(*addends.back().file, addends.back().up_name,
               fmt::format("added times {:g}, the weight leaves the range of {}",
                           addends.back().scale, Name(weight.dtype())));
  }
  return sum;
}

// Adds what a layer changes to the lists of its weights.
void AddLayer(const Weights& weights, const LoraTargets& names, const ScaledLora& lora,
              size_t index, const LoraLayer& layer,
              std::map<std::string, std::vector<Addend>>& addends) {
  const auto fail = [&](std::string_view problem) {
    FailTensor(*lora.file, layer.up_name, problem);
  };
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
        fail(fmt::format("changes the same weight as '{}'", OneLine(other.up_name)));
      }
    }
    of_weight.push_back({index, lora.file, layer.up_name, layer.down, layer.up, scale, up_begin,
                         target.rows, target.begin});
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
