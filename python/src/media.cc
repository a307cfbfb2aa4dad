// Pictures and films as files, and how alike they are.
#include <nanobind/stl/filesystem.h>
#include <nanobind/stl/map.h>
#include <nanobind/stl/string.h>

#include <filesystem>
#include <map>
#include <optional>
#include <string>

#include "arrays.h"
#include "bindings.h"
#include "released.h"
#include "tamias/error.h"
#include "tamias/image.h"
#include "tamias/video.h"

namespace tamias::python {
namespace {

using nb::literals::operator""_a;
using WithoutLock = nb::call_guard<Released>;
using Text = std::map<std::string, std::string>;

}  // namespace

void BindMedia(nb::module_& module) {
  module.def(
      "read_image", [](const std::filesystem::path& path) { return ToArray(ReadImage(path)); },
      "path"_a, "A PNG, JPEG or WebP as [height, width, 3] u8.");
  module.def(
      "write_image",
      [](const std::filesystem::path& path, const ConstArray& image, const Text& text,
         int quality) { WriteImage(path, ImageOf(image, "image"), text, {.quality = quality}); },
      "path"_a, "image"_a, "text"_a = Text(), "quality"_a = 90, WithoutLock(),
      "Writes [height, width, 3] u8 as .png, .jpg or .webp, complete or not at all. `text` goes "
      "into "
      "the file (Pipeline.text); quality 1 to 100 is of JPEG and WebP.");
  module.def(
      "encode_image",
      [](const std::string& format, const ConstArray& image, const Text& text, int quality) {
        const std::optional<ImageFormat> known = ImageFormatOf("picture." + format);
        if (!known) {
          throw Error(ErrorCode::kInvalidArgument,
                      "format: expected png, jpeg or webp, found '" + format + "'");
        }
        std::string bytes;
        {
          const Released released;
          bytes = EncodeImage(*known, ImageOf(image, "image"), text, {.quality = quality});
        }
        return nb::bytes(bytes.data(), bytes.size());
      },
      "format"_a, "image"_a, "text"_a = Text(), "quality"_a = 90,
      "The bytes of such a file; format: \"png\", \"jpeg\" or \"webp\".");
  module.def(
      "write_video",
      [](const std::filesystem::path& path, const ConstArray& frames, double fps,
         const Text& text) { WriteVideo(path, VideoOf(frames, fps, "frames"), text); },
      "path"_a, "frames"_a, "fps"_a, "text"_a = Text(), WithoutLock(),
      "Writes [frames, height, width, 3] u8 as .mp4 or animated .webp, complete or not at all.");
  module.def(
      "psnr",
      [](const ConstArray& a, const ConstArray& b) {
        return Psnr(ImageOf(a, "a"), ImageOf(b, "b"));
      },
      "a"_a, "b"_a, WithoutLock(),
      "Peak signal-to-noise ratio in dB of two pictures [height, width, 3] u8; inf when equal.");
  module.def(
      "ssim",
      [](const ConstArray& a, const ConstArray& b) {
        return Ssim(ImageOf(a, "a"), ImageOf(b, "b"));
      },
      "a"_a, "b"_a, WithoutLock(),
      "Structural similarity (Wang et al. 2004) of the luma of two pictures [height, width, 3] "
      "u8.");
}

}  // namespace tamias::python
