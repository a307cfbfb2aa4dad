// Between arrays of Python and tensors: shapes, element types, and who owns the memory.
#include "arrays.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <string>
#include <utility>

#include "tamias/device_memory.h"
#include "tamias/error.h"

namespace tamias::python {
namespace {

struct TypePair {
  DType ours;
  nb::dlpack::dtype_code code;
  uint8_t bits;
};
constexpr std::array<TypePair, 6> kTypes = {{{DType::kF32, nb::dlpack::dtype_code::Float, 32},
                                             {DType::kF16, nb::dlpack::dtype_code::Float, 16},
                                             {DType::kBF16, nb::dlpack::dtype_code::Bfloat, 16},
                                             {DType::kI32, nb::dlpack::dtype_code::Int, 32},
                                             {DType::kI64, nb::dlpack::dtype_code::Int, 64},
                                             {DType::kU8, nb::dlpack::dtype_code::UInt, 8}}};

DType TypeOf(const nb::dlpack::dtype& type, const char* name) {
  for (const TypePair& pair : kTypes) {
    const bool is_same = static_cast<uint8_t>(pair.code) == type.code && pair.bits == type.bits;
    if (is_same && type.lanes == 1) return pair.ours;
  }
  throw Error(ErrorCode::kUnsupported,
              std::string(name) +
                  ": element type: expected f32, f16, bf16, i32, i64 or u8, found DLPack code " +
                  std::to_string(type.code) + " of " + std::to_string(type.bits) + " bits");
}

template <typename Any>
Shape ShapeOf(const Any& array, const char* name) {
  if (array.ndim() > Shape::kMaxRank) {
    throw Error(ErrorCode::kInvalidArgument, std::string(name) + ": expected at most " +
                                                 std::to_string(Shape::kMaxRank) + " axes, found " +
                                                 std::to_string(array.ndim()));
  }
  Shape shape;
  for (size_t i = 0; i < array.ndim(); ++i) shape.Append(static_cast<int64_t>(array.shape(i)));
  return shape;
}

template <typename Any>
Shape StridesOf(const Any& array) {
  Shape strides;
  for (size_t i = 0; i < array.ndim(); ++i) strides.Append(array.stride(i));
  return strides;
}

template <typename Any>
Device DeviceOf(const Any& array, const char* name) {
  const int type = array.device_type();
  if (type == nb::device::cpu::value || type == nb::device::cuda_host::value) return {};
  if (type == nb::device::cuda::value) {
    return {DeviceType::kCuda, static_cast<int>(array.device_id())};
  }
  throw Error(ErrorCode::kUnsupported,
              std::string(name) + ": expected memory of the host or of a CUDA GPU, found that of " +
                  "DLPack device " + std::to_string(type) + ":" +
                  std::to_string(array.device_id()));
}

template <typename View, typename Any>
View MakeView(const Any& array, const char* name) {
  const Device device = DeviceOf(array, name);
  const Shape strides = StridesOf(array);
  for (const int64_t stride : strides.dims()) {
    if (stride < 0) {
      throw Error(ErrorCode::kInvalidArgument, std::string(name) +
                                                   ": expected strides of 0 and more, found " +
                                                   strides.ToString() + ": give a copy");
    }
  }
  return View(array.data(), TypeOf(array.dtype(), name), ShapeOf(array, name), strides, device);
}

// Owned by the array that is returned.
template <typename Owning>
nb::capsule OwnerOf(std::unique_ptr<Owning> owned) {
  return nb::capsule(owned.release(),
                     [](void* pointer) noexcept { delete static_cast<Owning*>(pointer); });
}

template <typename T>
nb::ndarray<nb::numpy, T> Own(std::vector<T> values, std::initializer_list<size_t> shape) {
  auto owned = std::make_unique<std::vector<T>>(std::move(values));
  T* data = owned->data();
  return nb::ndarray<nb::numpy, T>(data, shape, OwnerOf(std::move(owned)));
}

void CheckShape(const ConstArray& array, const char* name, const char* expected, bool is_right) {
  if (!is_right) {
    throw Error(ErrorCode::kInvalidArgument, std::string(name) + ": expected " + expected +
                                                 ", found " + ShapeOf(array, name).ToString());
  }
}

// A contiguous copy of the elements.
template <typename T>
std::vector<T> ElementsOf(const ConstArray& array, const char* name) {
  const ConstTensorView view = ViewOf(array, name);
  if (view.dtype() != DTypeOf<T>::value) {
    throw Error(ErrorCode::kInvalidArgument, std::string(name) + ": expected " +
                                                 std::string(Name(DTypeOf<T>::value)) + ", found " +
                                                 std::string(Name(view.dtype())));
  }
  if (view.device().type != DeviceType::kCpu) {
    throw Error(
        ErrorCode::kInvalidArgument,
        std::string(name) + ": expected memory of the host, found that of " + Name(view.device()));
  }
  const Tensor copy = Tensor::CopyOf(view);
  const T* begin = copy.data<T>();
  return std::vector<T>(begin, begin + copy.NumElements());
}

}  // namespace

void CheckApart(const Array& output, const ConstArray& input, const char* name) {
  if (output.size() > 0 && output.data() == input.data()) {
    throw Error(ErrorCode::kInvalidArgument,
                std::string("out: expected memory apart from ") + name + ", found the same");
  }
}

GpuArray EmptyOnGpu(int gpu, const std::vector<int64_t>& shape, std::string_view dtype) {
  const auto* pair = std::find_if(kTypes.begin(), kTypes.end(),
                                  [&](const TypePair& one) { return Name(one.ours) == dtype; });
  if (pair == kTypes.end()) {
    throw Error(ErrorCode::kUnsupported,
                "dtype: expected one of an operation, found '" + std::string(dtype) + "'");
  }
  Shape sizes;
  for (const int64_t size : shape) sizes.Append(size);
  const std::vector<size_t> dims(shape.begin(), shape.end());
  auto owned =
      std::make_unique<Tensor>(TensorOn(Device{DeviceType::kCuda, gpu}, sizes, pair->ours));
  void* data = owned->view().raw();
  const nb::dlpack::dtype type = {static_cast<uint8_t>(pair->code), pair->bits, 1};
  return GpuArray(data, dims.size(), dims.data(), OwnerOf(std::move(owned)), nullptr, type,
                  nb::device::cuda::value, gpu);
}

TensorView ViewOf(const Array& array, const char* name) {
  return MakeView<TensorView>(array, name);
}

ConstTensorView ViewOf(const ConstArray& array, const char* name) {
  return MakeView<ConstTensorView>(array, name);
}

TensorView ViewOf(const OptionalArray& array, const char* name) {
  return array ? ViewOf(*array, name) : TensorView();
}

ConstTensorView ViewOf(const OptionalConstArray& array, const char* name) {
  return array ? ViewOf(*array, name) : ConstTensorView();
}

Pixels ToArray(Image image) {
  const auto height = static_cast<size_t>(image.height);
  const auto width = static_cast<size_t>(image.width);
  return Own(std::move(image.rgb), {height, width, 3});
}

Pixels ToArray(const Video& video) {
  std::vector<uint8_t> pixels;
  for (const Image& frame : video.frames) {
    pixels.insert(pixels.end(), frame.rgb.begin(), frame.rgb.end());
  }
  const auto height = static_cast<size_t>(video.frames.empty() ? 0 : video.frames.front().height);
  const auto width = static_cast<size_t>(video.frames.empty() ? 0 : video.frames.front().width);
  return Own(std::move(pixels), {video.frames.size(), height, width, 3});
}

Floats ToArray(Latents latents) {
  const auto tokens = static_cast<size_t>(latents.tokens);
  const auto channels = static_cast<size_t>(latents.channels);
  return Own(std::move(latents.values), {tokens, channels});
}

Floats CopyOf(std::span<const float> values, int64_t tokens) {
  const auto rows = static_cast<size_t>(tokens);
  return Own(std::vector(values.begin(), values.end()), {rows, values.size() / rows});
}

Image ImageOf(const ConstArray& array, const char* name) {
  CheckShape(array, name, "[height, width, 3] u8", array.ndim() == 3 && array.shape(2) == 3);
  return {static_cast<int>(array.shape(1)), static_cast<int>(array.shape(0)),
          ElementsOf<uint8_t>(array, name)};
}

Latents LatentsOf(const ConstArray& array, const char* name) {
  CheckShape(array, name, "[tokens, channels] f32", array.ndim() == 2);
  return {static_cast<int64_t>(array.shape(0)), static_cast<int64_t>(array.shape(1)),
          ElementsOf<float>(array, name)};
}

Video VideoOf(const ConstArray& array, double fps, const char* name) {
  CheckShape(array, name, "[frames, height, width, 3] u8",
             array.ndim() == 4 && array.shape(3) == 3);
  const std::vector<uint8_t> pixels = ElementsOf<uint8_t>(array, name);
  const size_t frames = array.shape(0);
  Video video{fps, {}};
  for (size_t i = 0; i < frames; ++i) {
    const size_t size = pixels.size() / frames;
    const auto begin = pixels.begin() + static_cast<ptrdiff_t>(i * size);
    video.frames.push_back({static_cast<int>(array.shape(2)), static_cast<int>(array.shape(1)),
                            std::vector(begin, begin + static_cast<ptrdiff_t>(size))});
  }
  return video;
}

}  // namespace tamias::python
