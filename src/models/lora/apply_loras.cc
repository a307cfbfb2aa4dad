// Each weight has the list of what is added to it, over all LoRAs, and one function that does so.
#include "models/lora/apply_loras.h"

#include <map>
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
  std::shared_ptr<const LoraFile> file;  // keeps the factors
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

Tensor Merged(const ConstTensorView& weight, const std::vector<Addend>& addends) {
  Context context;
  Tensor sum = Converted(context, weight, DType::kF32);
  for (const Addend& addend : addends) {
    const Tensor up = Scaled(addend.up, addend.up_begin, addend.rows, addend.scale);
    Linear(context, up.view(), Transposed(addend.down).view(), {},
           sum.view().Slice(0, addend.begin, addend.begin + addend.rows), {.accumulate = true});
  }
  return weight.dtype() == DType::kF32 ? std::move(sum)
                                       : Converted(context, sum.view(), weight.dtype());
}

[[noreturn]] void FailLayer(const LoraFile& file, const LoraLayer& layer,
                            std::string_view problem) {
  Fail(ErrorCode::kInvalidFile, "{}: tensor '{}': {}: the LoRA is of another model",
       file.path().string(), OneLine(layer.up_name), problem);
}

// Adds what a layer changes to the lists of its weights.
void AddLayer(const Weights& weights, const LoraTargets& names, const ScaledLora& lora,
              const LoraLayer& layer, std::map<std::string, std::vector<Addend>>& addends) {
  const std::vector<LoraTarget>* targets = names.Find(layer.name, layer.is_joined);
  if (targets == nullptr) {
    FailLayer(
        *lora.file, layer,
        fmt::format("{} has no linear layer '{}'", weights.folder().string(), OneLine(layer.name)));
  }
  int64_t rows = 0;
  for (const LoraTarget& target : *targets) rows += target.rows;
  const int64_t inputs = weights.Dims(targets->front().weight).at(1);
  if (layer.up.dim(0) != rows || layer.down.dim(1) != inputs) {
    FailLayer(
        *lora.file, layer,
        fmt::format("expected factors of a layer {}, found {}", Shape{rows, inputs}.ToString(),
                    Shape{layer.up.dim(0), layer.down.dim(1)}.ToString()));
  }
  int64_t up_begin = 0;
  for (const LoraTarget& target : *targets) {
    addends[target.weight].push_back({lora.file, layer.down, layer.up, lora.scale * layer.scale,
                                      up_begin, target.rows, target.begin});
    up_begin += target.rows;
  }
}

}  // namespace

Weights ApplyLoras(const Weights& weights, const std::string& component,
                   const std::vector<ScaledLora>& loras) {
  const LoraTargets names(weights);
  std::map<std::string, std::vector<Addend>> addends;
  for (const ScaledLora& lora : loras) {
    for (const LoraLayer& layer : lora.file->layers()) {
      if (layer.component == component) AddLayer(weights, names, lora, layer, addends);
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
