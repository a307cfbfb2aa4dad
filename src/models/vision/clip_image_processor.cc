// Preparing pictures for CLIP: see the header.
#include "models/vision/clip_image_processor.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>

#include "base/check.h"
#include "io/json.h"

namespace tamias {
namespace {

constexpr IntRange kSide = {1, 4096};

void RequireStep(const JsonObject& json, std::string_view field) {
  if (!json.BoolOr(field, true)) {
    Fail(ErrorCode::kUnsupported, "{}: field '{}': only true is supported", json.source(), field);
  }
}

// Sizes are numbers in older files and objects in newer ones.
int64_t ReadShortestEdge(const JsonObject& json, int64_t fallback) {
  if (!json.Has("size") || json.raw().at("size").is_number()) {
    return json.IntOr("size", fallback, kSide);
  }
  const JsonObject size = json.Object("size");
  if (!size.Has("shortest_edge")) {
    Fail(ErrorCode::kUnsupported, "{}: field 'size': only 'shortest_edge' is supported",
         json.source());
  }
  return size.Int("shortest_edge", kSide);
}

int64_t ReadCropSize(const JsonObject& json, int64_t fallback) {
  if (!json.Has("crop_size") || json.raw().at("crop_size").is_number()) {
    return json.IntOr("crop_size", fallback, kSide);
  }
  const JsonObject size = json.Object("crop_size");
  const int64_t height = size.Int("height", kSide), width = size.Int("width", kSide);
  if (height != width) {
    json.FailField("crop_size", fmt::format("expected a square, found {} x {}", height, width));
  }
  return height;
}

// Pillow's numbers.
ResizeFilter ReadFilter(const JsonObject& json) {
  constexpr int64_t kLanczos = 1, kBicubic = 3;
  const int64_t resample = json.IntOr("resample", kBicubic);
  if (resample == kBicubic) return ResizeFilter::kBicubic;
  if (resample == kLanczos) return ResizeFilter::kLanczos;
  Fail(ErrorCode::kUnsupported,
       "{}: field 'resample': only 1 (Lanczos) and 3 (bicubic) are supported, found {}",
       json.source(), resample);
}

void ReadColours(const JsonObject& json, std::string_view field, FloatRange range,
                 std::array<double, 3>& colours) {
  if (!json.Has(field)) return;
  const std::vector<double> found = json.FloatArray(field, range);
  if (found.size() != colours.size()) {
    json.FailField(field, fmt::format("expected 3 numbers, found {}", found.size()));
  }
  std::ranges::copy(found, colours.begin());
}

}  // namespace

ClipImageProcessor ClipImageProcessor::FromJson(const JsonObject& json) {
  for (const std::string_view step :
       {"do_resize", "do_center_crop", "do_rescale", "do_normalize"}) {
    RequireStep(json, step);
  }
  ClipImageProcessor processor;
  processor.shortest_edge = ReadShortestEdge(json, processor.shortest_edge);
  processor.crop_size = ReadCropSize(json, processor.crop_size);
  if (processor.crop_size > processor.shortest_edge) {
    json.FailField("crop_size", fmt::format("expected at most the shortest edge of {}, found {}",
                                            processor.shortest_edge, processor.crop_size));
  }
  processor.filter = ReadFilter(json);
  processor.rescale_factor = json.FloatOr("rescale_factor", processor.rescale_factor, {1e-9, 1e9});
  ReadColours(json, "image_mean", {-1e6, 1e6}, processor.image_mean);
  ReadColours(json, "image_std", {1e-6, 1e6}, processor.image_std);
  return processor;
}

Tensor ClipImageProcessor::operator()(const Image& image) const {
  const int64_t shorter = std::min(image.width, image.height);
  const auto scaled = [&](int64_t side) {
    // As Python's int(edge * side / shorter).
    return static_cast<int>(static_cast<double>(shortest_edge * side) /
                            static_cast<double>(shorter));
  };
  const Image resized = ResizeImage(image, scaled(image.width), scaled(image.height), filter);
  const int64_t left = (resized.width - crop_size) / 2, top = (resized.height - crop_size) / 2;
  Tensor pixels({1, crop_size, crop_size, 3}, DType::kF32);
  float* out = pixels.host_data<float>();
  for (int64_t y = 0; y < crop_size; ++y) {
    const uint8_t* row = resized.rgb.data() + ((top + y) * resized.width + left) * 3;
    for (int64_t i = 0; i < crop_size * 3; ++i) {
      const auto colour = static_cast<size_t>(i % 3);
      *out++ =
          static_cast<float>((row[i] * rescale_factor - image_mean[colour]) / image_std[colour]);
    }
  }
  return pixels;
}

}  // namespace tamias
