// Element types that no operation computes with, widened to one that does: F64 rounded to f32, the
// 8-bit floats F8_E4M3 (no infinity; 1-4-3 bits) and F8_E5M2 (1-5-2) to bf16, which holds each of
// their values exactly. Source of the formats: Micikevicius et al., FP8 Formats for Deep Learning,
// arXiv 2209.05433.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string_view>

#include "tamias/tensor.h"

namespace tamias {

// The wider type of a safetensors element type, or nothing.
std::optional<DType> WidenedType(std::string_view dtype_name);

// Values of an element type that WidenedType knows, at any address; as many as the shape has.
Tensor Widened(std::string_view dtype_name, std::span<const std::byte> bytes, const Shape& shape);

}  // namespace tamias
