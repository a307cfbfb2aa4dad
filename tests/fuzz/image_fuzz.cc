// Pictures as `--image` takes them: PNG, JPEG or WebP by the first bytes, with EXIF and XMP. PNG
// has a target of its own that also puts checksums right; here the headers and pixels of JPEG and
// WebP are what mutations reach.
#include "tamias/error.h"
#include "tamias/image.h"
#include "tests/fuzz/fuzz_target.h"

namespace tamias::fuzz {

TAMIAS_FUZZ_TARGET(image)(Bytes input) {
  try {
    const Image image = DecodeImage(input, "a.jpg");
    Require(image.width > 0 && image.height > 0, "a picture has pixels");
    Require(image.rgb.size() == static_cast<size_t>(image.width) * image.height * 3,
            "every pixel is there");
  } catch (const Error& error) {
    Require(error.code() == ErrorCode::kInvalidFile || error.code() == ErrorCode::kUnsupported,
            "a broken file is kInvalidFile, another kind kUnsupported");
  }
}

}  // namespace tamias::fuzz
