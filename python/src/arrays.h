// Arrays of Python (NumPy, PyTorch, anything that speaks DLPack) as tensor views, and pixels and
// latents as NumPy arrays. Nothing is copied but where a function says so.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "tamias/image.h"
#include "tamias/pipeline.h"
#include "tamias/tensor.h"
#include "tamias/video.h"

namespace tamias::python {

namespace nb = nanobind;

using Array = nb::ndarray<>;             // that is written
using ConstArray = nb::ndarray<nb::ro>;  // that is read
using OptionalArray = std::optional<Array>;
using OptionalConstArray = std::optional<ConstArray>;
using Pixels = nb::ndarray<nb::numpy, uint8_t>;
using Floats = nb::ndarray<nb::numpy, float>;

// A new array in the memory of a GPU, for libraries that take it by DLPack.
using GpuArray = nb::ndarray<nb::array_api>;

// Valid as long as the array. Throws kUnsupported, naming the argument, for element types that no
// operation takes and for memory of neither the host nor a CUDA GPU; kInvalidArgument for too many
// axes.
TensorView ViewOf(const Array& array, const char* name);
ConstTensorView ViewOf(const ConstArray& array, const char* name);
// An empty view where nothing is given.
TensorView ViewOf(const OptionalArray& array, const char* name);
ConstTensorView ViewOf(const OptionalConstArray& array, const char* name);

// Contiguous, uninitialised, of this element type ("f32"). Throws as TensorOn.
GpuArray EmptyOnGpu(int gpu, const std::vector<int64_t>& shape, std::string_view dtype);

// Throws kInvalidArgument where an output is the same memory as an input that is still read when
// the output is written.
void CheckApart(const Array& output, const ConstArray& input, const char* name);

// [height, width, 3] u8; owns the pixels.
Pixels ToArray(Image image);
// [frames, height, width, 3] u8, a copy.
Pixels ToArray(const Video& video);
// [tokens, channels] f32; owns the values.
Floats ToArray(Latents latents);
// A copy, [tokens, channels] f32.
Floats CopyOf(std::span<const float> values, int64_t tokens);

// Copies of memory of the host. Throw kInvalidArgument, naming the argument, for other shapes,
// types and places.
Image ImageOf(const ConstArray& array, const char* name);      // [height, width, 3] u8
Latents LatentsOf(const ConstArray& array, const char* name);  // [tokens, channels] f32
Video VideoOf(const ConstArray& array, double fps, const char* name);

}  // namespace tamias::python
