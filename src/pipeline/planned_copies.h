// The copies of models that a plan counts: on which device, in which types, with which of their
// blocks streamed. Generations of one pipeline share those that are alike.
#pragma once

#include <compare>
#include <cstddef>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "pipeline/model_residency.h"
#include "tamias/device.h"
#include "tamias/placement.h"

namespace tamias {

struct GenerationPlan;

// There is one copy of each at a time.
struct CopyKey {
  Device device;
  const PlacedModel* model = nullptr;
  DType activation_dtype = DType::kF32;
  std::optional<DType> weight_dtype;

  bool operator==(const CopyKey&) const = default;
  auto operator<=>(const CopyKey& other) const { return Fields() <=> other.Fields(); }

 private:
  using Tuple = std::tuple<DeviceType, int, const PlacedModel*, DType, std::optional<DType>>;
  Tuple Fields() const {
    return {device.type, device.index, model, activation_dtype, weight_dtype};
  }
};

struct PlannedCopy {
  const ModelComponent* component = nullptr;
  Placement placement;  // on the device of the copy
  std::vector<std::string> streamed;
  // On the device; 0 where models are read where their files lie.
  size_t bytes = 0;
  size_t prepared_bytes = 0;  // for sparse MLPs; 0: it need not be prepared
  size_t pinned_bytes = 0;    // of the host

  CopyKey key() const {
    return {placement.device, component->model, placement.activation_dtype, placement.weight_dtype};
  }
  size_t device_bytes() const { return bytes + prepared_bytes; }
  size_t host_bytes() const { return placement.IsOnGpu() ? pinned_bytes : device_bytes(); }
};

// Of the plan's placements, residency and sparsity. Its components must outlive them.
std::vector<PlannedCopy> PlannedCopies(const std::vector<ModelComponent>& components,
                                       const GenerationPlan& plan);
// Of the host, all of them together.
size_t HostBytes(const std::vector<PlannedCopy>& copies);
// The copy of that key; null: it is not among them.
const PlannedCopy* FindCopy(const std::vector<PlannedCopy>& copies, const CopyKey& key);

}  // namespace tamias
