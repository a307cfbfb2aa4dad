// Elements whose type, f32 or bf16, is known at run time only: what the operations hand to their
// code for each instruction set, which asks for the type once a run (lanes::WithElements in
// widen-inl.h).
#pragma once

#include <cstddef>
#include <cstdint>

#include "tamias/tensor.h"

namespace tamias::cpu {

struct ConstElements {
  const void* data;
  DType dtype;  // f32 or bf16
  template <typename T>
  const T* As() const {
    return static_cast<const T*>(data);
  }
};

struct Elements {
  void* data;
  DType dtype;  // f32 or bf16
  template <typename T>
  T* As() const {
    return static_cast<T*>(data);
  }
};

// The elements of a view from `offset` on, in elements.
inline ConstElements ElementsAt(const ConstTensorView& view, int64_t offset) {
  return {static_cast<const std::byte*>(view.raw()) +
              offset * static_cast<int64_t>(SizeOf(view.dtype())),
          view.dtype()};
}

inline Elements ElementsAt(const TensorView& view, int64_t offset) {
  return {static_cast<std::byte*>(view.raw()) + offset * static_cast<int64_t>(SizeOf(view.dtype())),
          view.dtype()};
}

// to = value, rounded where it must be.
inline void SetFloat(float value, float& to) { to = value; }
inline void SetFloat(float value, BFloat16& to) { to = ToBFloat16(value); }

// body(T()) with T the type of a view's elements, float or BFloat16: for code of plain loops.
template <typename Body>
void WithElementType(DType dtype, const Body& body) {
  if (dtype == DType::kBF16) return body(BFloat16());
  body(float());
}

}  // namespace tamias::cpu
