// libpng behind a class per direction. libpng reports errors by a callback that must not return; it
// jumps back with setjmp, so the functions that can be jumped out of hold no C++ objects that need
// destruction: everything lives in the class.
#include "io/png.h"

#include <png.h>

#include <algorithm>
#include <csetjmp>
#include <cstring>

#include "base/check.h"
#include "io/atomic_file.h"
#include "io/exif.h"
#include "io/image_format.h"
#include "tamias/files.h"

namespace tamias {
namespace {

constexpr size_t kMaxFileBytes = size_t{1} << 30;
constexpr size_t kMaxDeflateRatio = 1032;          // what deflate can reach
constexpr size_t kMaxTextBytes = size_t{1} << 20;  // of one text chunk, decompressed

bool IsAscii(std::string_view text) {
  return std::ranges::all_of(text, [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

// EXIF as text, ImageMagick's way from before there was a chunk for it: an empty line, the name,
// the length, then hexadecimal digits in lines. What is no digit ends it.
std::string FromRawProfile(std::string_view text) {
  for (int line = 0; line < 3; ++line) {
    const size_t end = text.find('\n');
    if (end == text.npos) return "";
    text.remove_prefix(end + 1);
  }
  std::string bytes;
  int high = -1;  // the first digit of a byte
  for (const char c : text) {
    if (c == '\n') continue;
    const int letter = c | 0x20;
    const int digit = c >= '0' && c <= '9'             ? c - '0'
                      : letter >= 'a' && letter <= 'f' ? letter - 'a' + 10
                                                       : -1;
    if (digit < 0) break;
    if (high >= 0) bytes += static_cast<char>(high << 4 | digit);
    high = high >= 0 ? -1 : digit;
  }
  return bytes;
}

// State that both directions share: libpng's message of the error that ended the work.
struct PngState {
  png_structp png = nullptr;
  png_infop info = nullptr;
  std::string error;

  static void OnError(png_structp png, png_const_charp message) {
    auto* state = static_cast<PngState*>(png_get_error_ptr(png));
    state->error = message;
    png_longjmp(png, 1);
  }
  static void OnWarning(png_structp, png_const_charp) {}
};

class PngEncoder : private PngState {
 public:
  PngEncoder() {
    png = png_create_write_struct(PNG_LIBPNG_VER_STRING, static_cast<PngState*>(this), OnError,
                                  OnWarning);
    if (png != nullptr) info = png_create_info_struct(png);
    if (info == nullptr) {
      png_destroy_write_struct(&png, nullptr);
      Fail(ErrorCode::kOutOfMemory, "png: no memory for the encoder");
    }
  }
  ~PngEncoder() { png_destroy_write_struct(&png, &info); }
  PngEncoder(const PngEncoder&) = delete;
  PngEncoder& operator=(const PngEncoder&) = delete;

  std::string Encode(const Image& image, const PngText& items) {
    for (const auto& [keyword, value] : items) {
      png_text text{};
      text.compression = IsAscii(value) ? PNG_TEXT_COMPRESSION_NONE : PNG_ITXT_COMPRESSION_NONE;
      text.key = const_cast<char*>(keyword.c_str());
      text.text = const_cast<char*>(value.c_str());
      text.text_length = value.size();
      texts_.push_back(text);
    }
    const auto stride = static_cast<size_t>(image.width) * 3;
    for (int64_t y = 0; y < image.height; ++y) {
      rows_.push_back(const_cast<uint8_t*>(image.rgb.data() + static_cast<size_t>(y) * stride));
    }
    if (!Run(static_cast<png_uint_32>(image.width), static_cast<png_uint_32>(image.height))) {
      Fail(ErrorCode::kInternal, "png: {}", error);
    }
    return std::move(bytes_);
  }

 private:
  bool Run(png_uint_32 width, png_uint_32 height) {
    if (setjmp(png_jmpbuf(png)) != 0) return false;
    png_set_write_fn(png, &bytes_, Append, nullptr);
    png_set_IHDR(png, info, width, height, 8, PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE,
                 PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    png_set_text(png, info, texts_.data(), static_cast<int>(texts_.size()));
    png_set_rows(png, info, rows_.data());
    png_write_png(png, info, PNG_TRANSFORM_IDENTITY, nullptr);
    return true;
  }

  static void Append(png_structp png, png_bytep data, size_t size) {
    static_cast<std::string*>(png_get_io_ptr(png))->append(reinterpret_cast<char*>(data), size);
  }

  std::vector<png_text> texts_;
  std::vector<png_bytep> rows_;
  std::string bytes_;
};

class PngDecoder : private PngState {
 public:
  PngDecoder(std::span<const uint8_t> bytes, const std::string& source, int64_t max_pixels)
      : bytes_(bytes), file_size_(bytes.size()), source_(source), max_pixels_(max_pixels) {
    png = png_create_read_struct(PNG_LIBPNG_VER_STRING, static_cast<PngState*>(this), OnError,
                                 OnWarning);
    if (png != nullptr) info = png_create_info_struct(png);
    if (info == nullptr) {
      png_destroy_read_struct(&png, nullptr, nullptr);
      Fail(ErrorCode::kOutOfMemory, "png: no memory for the decoder");
    }
  }
  ~PngDecoder() { png_destroy_read_struct(&png, &info, nullptr); }
  PngDecoder(const PngDecoder&) = delete;
  PngDecoder& operator=(const PngDecoder&) = delete;

  PngPicture Decode() {
    CheckChunkLengths();
    if (!ReadInfo()) FailPng();
    PngPicture picture;
    Image& image = picture.image;
    image.width = static_cast<int>(png_get_image_width(png, info));
    image.height = static_cast<int>(png_get_image_height(png, info));
    if (int64_t{image.width} * image.height > max_pixels_) {
      Fail(ErrorCode::kInvalidFile, "{}: {}x{} pixels are more than the limit of {}", source_,
           image.width, image.height, max_pixels_);
    }
    // Before memory is taken for pixels that the file cannot hold.
    const size_t raw_size = png_get_rowbytes(png, info) * static_cast<size_t>(image.height);
    if (raw_size / kMaxDeflateRatio > file_size_) {
      error = "cut off";
      FailPng();
    }
    const auto stride = static_cast<size_t>(image.width) * 3;
    image.rgb.resize(static_cast<size_t>(image.height) * stride);
    for (int64_t y = 0; y < image.height; ++y) {
      rows_.push_back(image.rgb.data() + static_cast<size_t>(y) * stride);
    }
    if (!ReadPixels(stride)) FailPng();
    png_textp texts = nullptr;
    const int count = png_get_text(png, info, &texts, nullptr);
    for (int i = 0; i < count; ++i) {
      const bool is_utf8 = texts[i].compression >= PNG_ITXT_COMPRESSION_NONE;
      const size_t size = is_utf8 ? texts[i].itxt_length : texts[i].text_length;
      if (texts[i].text == nullptr) continue;
      picture.text[texts[i].key] = std::string(texts[i].text, size);
    }
    picture.orientation = ReadOrientation(picture.text);
    return picture;
  }

 private:
  int ReadOrientation(const PngText& text) {
    png_uint_32 size = 0;
    png_bytep chunk = nullptr;
    png_get_eXIf_1(png, info, &size, &chunk);
    std::string exif(reinterpret_cast<const char*>(chunk), size);
    const auto find = [&](const char* keyword) {
      const auto item = text.find(keyword);
      return item == text.end() ? std::string() : item->second;
    };
    if (exif.empty()) exif = FromRawProfile(find("Raw profile type exif"));
    return OrientationOf({reinterpret_cast<const uint8_t*>(exif.data()), exif.size()},
                         find("XML:com.adobe.xmp"));
  }

  [[noreturn]] void FailPng() const {
    Fail(ErrorCode::kInvalidFile, "{}: not a readable PNG: {}", source_, error);
  }

  // Every chunk (u32 length, type, data, checksum) must lie within the file: libpng would take
  // memory for a length before it finds that the data are not there.
  void CheckChunkLengths() {
    constexpr size_t kSignature = 8, kFrame = 12;
    for (size_t at = kSignature; at + kFrame <= bytes_.size();) {
      size_t length = 0;
      for (size_t i = 0; i < 4; ++i) length = length << 8 | bytes_[at + i];
      if (length > bytes_.size() - at - kFrame) {
        error = "cut off";
        FailPng();
      }
      at += kFrame + length;
    }
  }

  bool ReadInfo() {
    if (setjmp(png_jmpbuf(png)) != 0) return false;
    png_set_read_fn(png, this, Take);
    png_set_user_limits(png, kMaxPngSide, kMaxPngSide);
    png_set_chunk_malloc_max(png, kMaxTextBytes);
    png_read_info(png, info);
    return true;
  }

  bool ReadPixels(size_t stride) {
    if (setjmp(png_jmpbuf(png)) != 0) return false;
    png_set_expand(png);  // palettes, 1 to 4 bit greys
    png_set_scale_16(png);
    png_set_strip_alpha(png);
    png_set_gray_to_rgb(png);
    png_set_interlace_handling(png);
    png_read_update_info(png, info);
    if (png_get_rowbytes(png, info) != stride) png_error(png, "unexpected row size");
    png_read_image(png, rows_.data());
    png_read_end(png, info);
    return true;
  }

  static void Take(png_structp png, png_bytep data, size_t size) {
    auto* decoder = static_cast<PngDecoder*>(png_get_io_ptr(png));
    if (size > decoder->bytes_.size()) png_error(png, "cut off");
    std::memcpy(data, decoder->bytes_.data(), size);
    decoder->bytes_ = decoder->bytes_.subspan(size);
  }

  std::span<const uint8_t> bytes_;  // not yet read
  size_t file_size_;
  const std::string& source_;
  int64_t max_pixels_;
  std::vector<png_bytep> rows_;
};

void CheckText(const PngText& text) {
  for (const auto& [keyword, value] : text) {
    // PNG forbids blanks at the ends and in a row; libpng would remove them without a word.
    const bool is_keyword =
        !keyword.empty() && keyword.size() <= 79 && keyword.front() != ' ' &&
        keyword.back() != ' ' && keyword.find("  ") == keyword.npos &&
        std::ranges::all_of(keyword, [](char c) { return c >= ' ' && c <= '~'; });
    if (!is_keyword || value.find('\0') != value.npos || value.size() > kMaxTextBytes) {
      Fail(ErrorCode::kInvalidArgument,
           "png: text '{}': expected a keyword of 1 to 79 ASCII characters, a value without NUL of "
           "at "
           "most {} bytes",
           keyword, kMaxTextBytes);
    }
  }
}

}  // namespace

std::string EncodePng(const Image& image, const PngText& text) {
  CheckPixels(image, kMaxPngSide, "png");
  CheckText(text);
  return PngEncoder().Encode(image, text);
}

void WritePng(const std::filesystem::path& path, const Image& image, const PngText& text) {
  WriteFileAtomically(path, EncodePng(image, text));
}

PngPicture ReadPng(const std::filesystem::path& path) {
  const std::string bytes = ReadFile(path, kMaxFileBytes);
  return DecodePng({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()}, path.string());
}

PngPicture DecodePng(std::span<const uint8_t> bytes, const std::string& source,
                     int64_t max_pixels) {
  return PngDecoder(bytes, source, max_pixels).Decode();
}

}  // namespace tamias
