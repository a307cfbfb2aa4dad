#include "sparsity/state_builder.h"

#include <algorithm>

#include "base/check.h"

namespace tamias {

void StateBuilder::Count(std::string_view name, size_t bytes) {
  auto entry = std::ranges::find_if(entries_, [&](const auto& e) { return e.first == name; });
  if (entry == entries_.end()) entry = entries_.insert(entry, {std::string(name), 0});
  if (__builtin_add_overflow(entry->second, bytes, &entry->second)) {
    Fail(ErrorCode::kOutOfMemory, "{}: more than 2^64 bytes", name);
  }
}

Tensor StateBuilder::Make(std::string_view name, Shape shape, DType dtype) {
  size_t bytes = 0;
  if (__builtin_mul_overflow(static_cast<size_t>(shape.NumElements()), SizeOf(dtype), &bytes)) {
    Fail(ErrorCode::kOutOfMemory, "{}: a tensor of shape {} is too large", name, shape.ToString());
  }
  Count(name, bytes);
  return only_plans_ ? Tensor() : Tensor::Zeros(shape, dtype);
}

}  // namespace tamias
