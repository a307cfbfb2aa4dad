// JPEG through FFmpeg's decoder. It would show what it has of a broken file; a header walk before
// and strict decoding make that an error, and nothing is allocated for pixels that the file cannot
// hold.
#include "io/jpeg.h"

#include <algorithm>
#include <cstring>
#include <iterator>

#include "base/check.h"
#include "io/exif.h"
#include "io/ffmpeg.h"

namespace tamias {
namespace {

using ffmpeg::Owned;
using ffmpeg::QuietLog;

// Of a progressive file's 8x8 blocks each takes a bit at least; most pixels a byte has a grey one.
constexpr int64_t kMaxPixelsPerByte = 8 * 64;

[[noreturn]] void FailJpeg(const std::string& source, std::string_view problem) {
  Fail(ErrorCode::kInvalidFile, "{}: not a readable JPEG: {}", source, problem);
}

template <typename T>
T* CheckPointer(T* pointer) {
  if (pointer == nullptr) Fail(ErrorCode::kOutOfMemory, "jpeg: no memory for the decoder");
  return pointer;
}

struct Size {
  int64_t width = 0, height = 0;
};

// The segments of the file up to the first scan.
class HeaderWalk {
 public:
  HeaderWalk(std::span<const uint8_t> bytes, const std::string& source, int64_t max_pixels)
      : bytes_(bytes), source_(source), max_pixels_(max_pixels) {}

  // Throws unless the file can be what it says; the size of its picture.
  Size Check() {
    Skip(2);  // start of image
    for (;;) {
      const uint8_t marker = NextMarker();
      if (marker == kStartOfScan) break;
      const size_t begin = at_, length = Number(2);
      if (length < 2) FailJpeg(source_, "a segment without length");
      if (IsFrame(marker)) CheckFrame(marker);
      at_ = begin;
      Skip(length);
      if (marker == kApplicationData1) KeepMetadata(bytes_.subspan(begin + 2, length - 2));
    }
    if (size_.width == 0) FailJpeg(source_, "no size before the pixels");
    constexpr uint8_t kEndOfImage[] = {0xFF, 0xD9};
    const auto scan = bytes_.subspan(at_);
    if (std::search(scan.begin(), scan.end(), std::begin(kEndOfImage), std::end(kEndOfImage)) ==
        scan.end()) {
      FailJpeg(source_, "cut off");
    }
    return size_;
  }

  // How the camera was held, as EXIF counts. After Check.
  int orientation() const { return OrientationOf(exif_, xmp_); }

 private:
  static constexpr uint8_t kStartOfScan = 0xDA;
  static constexpr uint8_t kApplicationData1 = 0xE1;

  // The first EXIF and the first XMP of the file.
  void KeepMetadata(std::span<const uint8_t> data) {
    const std::string_view text(reinterpret_cast<const char*>(data.data()), data.size());
    if (exif_.empty() && text.starts_with("Exif")) exif_ = data;
    if (xmp_.empty() && text.starts_with("http://ns.adobe.com/xap/")) xmp_ = text;
  }

  // All kinds of frame; 0xC4, 0xC8 and 0xCC in their midst are something else.
  static bool IsFrame(uint8_t marker) {
    return marker == 0xC0 || (marker > 0xC0 && marker <= 0xCF && marker % 4 != 0);
  }

  void Skip(size_t count) {
    if (count > bytes_.size() - at_) FailJpeg(source_, "cut off");
    at_ += count;
  }

  size_t Number(size_t size) {
    size_t value = 0;
    for (const size_t end = at_ + size; at_ < end;) {
      Skip(1);
      value = value << 8 | bytes_[at_ - 1];
    }
    return value;
  }

  uint8_t NextMarker() {
    if (Number(1) != 0xFF) FailJpeg(source_, "no marker where one must be");
    size_t marker = 0xFF;
    while (marker == 0xFF) marker = Number(1);  // any number of them may come before
    return static_cast<uint8_t>(marker);
  }

  void CheckFrame(uint8_t marker) {
    constexpr uint8_t kProgressive = 0xC2;
    const size_t bits = Number(1);
    const auto height = static_cast<int64_t>(Number(2)), width = static_cast<int64_t>(Number(2));
    const size_t components = Number(1);
    if (marker > kProgressive || bits != 8 || (components != 1 && components != 3)) {
      Fail(ErrorCode::kUnsupported,
           "{}: only baseline and progressive JPEG of 8 bits, grey or colour, is supported "
           "(found kind {}, {} bits, {} components{})",
           source_, marker - 0xC0, bits, components,
           components == 4 ? ", CMYK as for print: save it as RGB" : "");
    }
    if (width < 1 || height < 1 || width > kMaxJpegSide || height > kMaxJpegSide ||
        width * height > max_pixels_) {
      Fail(ErrorCode::kInvalidFile,
           "{}: {}x{} pixels: sides must be 1 to {}, and no more than {} pixels", source_, width,
           height, kMaxJpegSide, max_pixels_);
    }
    if (width * height / kMaxPixelsPerByte > static_cast<int64_t>(bytes_.size())) {
      FailJpeg(source_, "cut off");
    }
    size_ = {width, height};
  }

  std::span<const uint8_t> bytes_;
  const std::string& source_;
  int64_t max_pixels_;
  size_t at_ = 0;
  Size size_;
  std::span<const uint8_t> exif_;
  std::string_view xmp_;
};

Owned<AVFrame> DecodeFrame(std::span<const uint8_t> bytes, const Size& size,
                           const std::string& source) {
  const AVCodec* codec = avcodec_find_decoder(AV_CODEC_ID_MJPEG);
  if (codec == nullptr) {
    Fail(ErrorCode::kUnsupported, "{}: this FFmpeg cannot read JPEG", source);
  }
  const Owned<AVCodecContext> decoder(CheckPointer(avcodec_alloc_context3(codec)));
  decoder->thread_count = 1;
  // Also of what a second header might say. FFmpeg counts rows as long as it lays them out.
  constexpr int64_t kRowAlignment = 64;
  decoder->max_pixels = (size.width + kRowAlignment) * size.height;
  decoder->err_recognition = AV_EF_EXPLODE;
  const Owned<AVPacket> packet(CheckPointer(av_packet_alloc()));
  if (av_new_packet(packet.get(), static_cast<int>(bytes.size())) < 0) {
    CheckPointer<void>(nullptr);
  }
  std::memcpy(packet->data, bytes.data(), bytes.size());
  Owned<AVFrame> frame(CheckPointer(av_frame_alloc()));
  const bool is_decoded = avcodec_open2(decoder.get(), codec, nullptr) >= 0 &&
                          avcodec_send_packet(decoder.get(), packet.get()) >= 0 &&
                          avcodec_send_packet(decoder.get(), nullptr) >= 0 &&
                          avcodec_receive_frame(decoder.get(), frame.get()) >= 0;
  if (!is_decoded || frame->width != size.width || frame->height != size.height ||
      frame->decode_error_flags != 0 || (frame->flags & AV_FRAME_FLAG_CORRUPT) != 0) {
    FailJpeg(source, "broken pixels");
  }
  return frame;
}

// FFmpeg marks full range (0 to 255) by formats of their own, which its converter calls deprecated.
AVPixelFormat PlainFormat(int format) {
  switch (format) {
    case AV_PIX_FMT_YUVJ420P:
      return AV_PIX_FMT_YUV420P;
    case AV_PIX_FMT_YUVJ422P:
      return AV_PIX_FMT_YUV422P;
    case AV_PIX_FMT_YUVJ444P:
      return AV_PIX_FMT_YUV444P;
    case AV_PIX_FMT_YUVJ440P:
      return AV_PIX_FMT_YUV440P;
    case AV_PIX_FMT_YUVJ411P:
      return AV_PIX_FMT_YUV411P;
    default:
      return static_cast<AVPixelFormat>(format);
  }
}

Image ToRgb(const AVFrame& frame) {
  Image image{frame.width, frame.height, {}};
  const Owned<SwsContext> converter(CheckPointer(sws_getContext(
      frame.width, frame.height, PlainFormat(frame.format), frame.width, frame.height,
      AV_PIX_FMT_RGB24, SWS_BILINEAR | SWS_ACCURATE_RND | SWS_FULL_CHR_H_INT | SWS_BITEXACT,
      nullptr, nullptr, nullptr)));
  const int* matrix = sws_getCoefficients(SWS_CS_ITU601);
  const int full = 1, one = 1 << 16;
  // Says -1 where no matrix is needed: from RGB to RGB.
  sws_setColorspaceDetails(converter.get(), matrix, full, matrix, full, 0, one, one);
  // FFmpeg writes a little beyond the rows that it is given: into rows of its own first.
  const Owned<AVFrame> rgb(CheckPointer(av_frame_alloc()));
  rgb->format = AV_PIX_FMT_RGB24;
  rgb->width = frame.width;
  rgb->height = frame.height;
  if (av_frame_get_buffer(rgb.get(), 0) < 0) CheckPointer<void>(nullptr);
  sws_scale(converter.get(), frame.data, frame.linesize, 0, frame.height, rgb->data, rgb->linesize);
  const size_t stride = static_cast<size_t>(image.width) * 3;
  image.rgb.resize(stride * static_cast<size_t>(image.height));
  for (int y = 0; y < image.height; ++y) {
    std::memcpy(&image.rgb[stride * static_cast<size_t>(y)],
                rgb->data[0] + static_cast<ptrdiff_t>(y) * rgb->linesize[0], stride);
  }
  return image;
}

}  // namespace

Image DecodeJpeg(std::span<const uint8_t> bytes, const std::string& source, int64_t max_pixels) {
  HeaderWalk header(bytes, source, max_pixels);
  const Size size = header.Check();
  const QuietLog quiet;
  const Owned<AVFrame> frame = DecodeFrame(bytes, size, source);
  return TurnUpright(ToRgb(*frame), header.orientation());
}

}  // namespace tamias
