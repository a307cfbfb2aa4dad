// Makes the tensors that live from step to step and keeps account of them. The same code plans
// (nothing is allocated) and allocates, so that a plan is exact by construction.
#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/tensor.h"

namespace tamias {

class StateBuilder {
 public:
  explicit StateBuilder(bool only_plans) : only_plans_(only_plans) {}

  // Zeroed memory; an empty tensor when planning.
  Tensor Make(std::string_view name, Shape shape, DType dtype = DType::kF32);
  // Counts memory that is held elsewhere.
  void Count(std::string_view name, size_t bytes);
  bool only_plans() const { return only_plans_; }
  // Bytes by name, in the order of first use.
  const std::vector<std::pair<std::string, size_t>>& entries() const { return entries_; }

 private:
  bool only_plans_;
  std::vector<std::pair<std::string, size_t>> entries_;
};

}  // namespace tamias
