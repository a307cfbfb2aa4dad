// Films through FFmpeg's libraries: RGB frames -> the encoder's pixels -> packets -> a container in
// memory. What could differ from run to run is off: encoders use one thread (their choices depend
// on the number), containers hold no time stamps and no version.
#include "io/video.h"

extern "C" {
#include <libavutil/opt.h>
}

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <memory>
#include <string_view>
#include <utility>

#include "base/check.h"
#include "io/ffmpeg.h"
#include "io/memory_stream.h"

namespace tamias {
namespace {

using ffmpeg::Owned;
using ffmpeg::QuietLog;

using Settings = std::vector<std::pair<const char*, const char*>>;  // FFmpeg's options

struct Encoder {
  const char* name;
  Settings settings;
};

// Constant quality near what the eye can tell from the source. x264's macroblock tree is off: with
// it version 164 gave films of 64x64 pixels other bytes from run to run.
const Encoder kVideoEncoders[] = {
    {"libx264", {{"preset", "medium"}, {"crf", "12"}, {"mbtree", "0"}}},
    {"libvpx-vp9", {{"crf", "12"}, {"b", "0"}, {"cpu-used", "3"}}},
    {"libaom-av1", {{"crf", "12"}, {"b", "0"}, {"cpu-used", "6"}}},
};
const Encoder kWebpEncoder = {"libwebp_anim", {{"quality", "95"}, {"lossless", "0"}}};

struct Container {
  const char* name;
  Settings settings;
  AVPixelFormat pixels;
  int multiple;  // of both sides
};

const Container kMp4 = {"mp4", {{"movflags", "+faststart"}}, AV_PIX_FMT_YUV420P, 2};
const Container kWebp = {"webp", {{"loop", "0"}}, AV_PIX_FMT_RGB32, 1};

// FFmpeg's result, or an error that says what was being done.
int Check(int result, const char* what) {
  if (result >= 0) return result;
  char reason[AV_ERROR_MAX_STRING_SIZE] = {};
  av_strerror(result, reason, sizeof(reason));
  Fail(result == AVERROR(ENOMEM) ? ErrorCode::kOutOfMemory : ErrorCode::kInternal,
       "video: cannot {}: {}", what, reason);
}

template <typename T>
T* CheckPointer(T* pointer) {
  if (pointer == nullptr) Fail(ErrorCode::kOutOfMemory, "video: no memory for the encoder");
  return pointer;
}

// Options as FFmpeg takes them. It removes those that it knows: what is left would have no effect.
class Options {
 public:
  explicit Options(const Settings& settings) {
    for (const auto& [name, value] : settings) av_dict_set(&options_, name, value, 0);
  }
  ~Options() { av_dict_free(&options_); }
  Options(const Options&) = delete;
  Options& operator=(const Options&) = delete;

  AVDictionary** get() { return &options_; }
  void CheckAllUsed() const { TAMIAS_CHECK(av_dict_count(options_) == 0); }

 private:
  AVDictionary* options_ = nullptr;
};

Owned<AVFrame> MakeFrame(AVPixelFormat pixels, int width, int height) {
  Owned<AVFrame> frame(CheckPointer(av_frame_alloc()));
  frame->format = pixels;
  frame->width = width;
  frame->height = height;
  Check(av_frame_get_buffer(frame.get(), 0), "hold a frame");
  return frame;
}

// Makes the encoder's frames of pictures. FFmpeg reads a little beyond the rows that it is given,
// so the pictures are first copied into rows of its own.
class FrameConverter {
 public:
  explicit FrameConverter(const AVCodecContext& codec)
      : rgb_(MakeFrame(AV_PIX_FMT_RGB24, codec.width, codec.height)),
        converted_(MakeFrame(codec.pix_fmt, codec.width, codec.height)),
        converter_(CheckPointer(sws_getContext(
            codec.width, codec.height, AV_PIX_FMT_RGB24, codec.width, codec.height, codec.pix_fmt,
            SWS_BICUBIC | SWS_ACCURATE_RND | SWS_FULL_CHR_H_INT | SWS_BITEXACT, nullptr, nullptr,
            nullptr))) {
    const int* matrix = sws_getCoefficients(SWS_CS_ITU709);
    const int full = 1, limited = 0, one = 1 << 16;
    // Says -1 where no matrix is needed: from RGB to RGB.
    sws_setColorspaceDetails(converter_.get(), matrix, full, matrix, limited, 0, one, one);
    converted_->color_range = codec.color_range;
    converted_->colorspace = codec.colorspace;
    converted_->color_primaries = codec.color_primaries;
    converted_->color_trc = codec.color_trc;
  }

  AVFrame* Convert(const Image& image, int64_t index) {
    const size_t stride = static_cast<size_t>(image.width) * 3;
    for (int y = 0; y < rgb_->height; ++y) {
      const uint8_t* from = &image.rgb[stride * std::min(y, image.height - 1)];
      uint8_t* to = rgb_->data[0] + static_cast<ptrdiff_t>(y) * rgb_->linesize[0];
      std::copy_n(from, stride, to);
      for (int x = image.width; x < rgb_->width; ++x) std::copy_n(to + 3 * (x - 1), 3, to + 3 * x);
    }
    Check(av_frame_make_writable(converted_.get()), "hold a frame");
    Check(sws_scale(converter_.get(), rgb_->data, rgb_->linesize, 0, rgb_->height, converted_->data,
                    converted_->linesize),
          "convert a frame");
    converted_->pts = index;
    return converted_.get();
  }

 private:
  Owned<AVFrame> rgb_;
  Owned<AVFrame> converted_;
  Owned<SwsContext> converter_;
};

const AVCodec* FindEncoder(const Encoder& encoder) {
  return avcodec_find_encoder_by_name(encoder.name);
}

Owned<AVCodecContext> OpenEncoder(const Encoder& encoder, const Container& container,
                                  const Video& video, bool global_header) {
  const AVCodec* type = FindEncoder(encoder);
  if (type == nullptr) {
    Fail(ErrorCode::kUnsupported, "video: this FFmpeg has no encoder {}", encoder.name);
  }
  const auto round_up = [&](int side) {
    return (side + container.multiple - 1) / container.multiple * container.multiple;
  };
  Owned<AVCodecContext> codec(CheckPointer(avcodec_alloc_context3(type)));
  codec->width = round_up(video.frames.front().width);
  codec->height = round_up(video.frames.front().height);
  codec->pix_fmt = container.pixels;
  codec->framerate = av_d2q(video.fps, 1'000'000);
  codec->time_base = av_inv_q(codec->framerate);
  codec->sample_aspect_ratio = {1, 1};
  codec->thread_count = 1;
  codec->flags |= AV_CODEC_FLAG_BITEXACT | (global_header ? AV_CODEC_FLAG_GLOBAL_HEADER : 0);
  if (container.pixels == AV_PIX_FMT_YUV420P) {
    codec->color_range = AVCOL_RANGE_MPEG;
    codec->colorspace = AVCOL_SPC_BT709;
    codec->color_primaries = AVCOL_PRI_BT709;
    codec->color_trc = AVCOL_TRC_BT709;
  }
  Options options(encoder.settings);
  Check(avcodec_open2(codec.get(), type, options.get()), "open the encoder");
  options.CheckAllUsed();
  return codec;
}

// The container that writes `bytes` through `stream`.
Owned<AVFormatContext> OpenContainer(const Container& container, const VideoText& text,
                                     std::string& bytes, MemoryStream& stream) {
  AVFormatContext* allocated = nullptr;
  Check(avformat_alloc_output_context2(&allocated, nullptr, container.name, nullptr),
        "open the container");
  Owned<AVFormatContext> format(allocated);
  format->pb = stream.context();
  format->opaque = &bytes;
  format->io_open = MemoryStream::Open;
  format->io_close2 = MemoryStream::Close;
  format->url = CheckPointer(av_strdup(""));
  format->flags |= AVFMT_FLAG_BITEXACT | AVFMT_FLAG_CUSTOM_IO;
  for (const auto& [keyword, key] : {std::pair{"Description", "title"}, {"tamias", "comment"}}) {
    if (const auto item = text.find(keyword); item != text.end()) {
      Check(av_dict_set(&format->metadata, key, item->second.c_str(), 0), "store the text");
    }
  }
  return format;
}

// One film from the first byte of its container to the last.
std::string Encode(const Video& video, const VideoText& text, const Encoder& encoder,
                   const Container& container) {
  const QuietLog quiet;
  std::string bytes;
  MemoryStream stream(bytes, /*writing=*/true);
  const Owned<AVFormatContext> format = OpenContainer(container, text, bytes, stream);
  const Owned<AVCodecContext> codec =
      OpenEncoder(encoder, container, video, (format->oformat->flags & AVFMT_GLOBALHEADER) != 0);
  AVStream* track = CheckPointer(avformat_new_stream(format.get(), nullptr));
  track->time_base = codec->time_base;
  track->avg_frame_rate = codec->framerate;
  Check(avcodec_parameters_from_context(track->codecpar, codec.get()), "describe the film");
  Options options(container.settings);
  Check(avformat_write_header(format.get(), options.get()), "begin the film");
  options.CheckAllUsed();

  const Owned<AVPacket> packet(CheckPointer(av_packet_alloc()));
  const auto write_packets = [&] {
    for (;;) {
      const int result = avcodec_receive_packet(codec.get(), packet.get());
      if (result == AVERROR(EAGAIN) || result == AVERROR_EOF) return;
      Check(result, "encode a frame");
      packet->duration = 1;  // every frame lasts as long
      av_packet_rescale_ts(packet.get(), codec->time_base, track->time_base);
      Check(av_interleaved_write_frame(format.get(), packet.get()), "write a frame");
    }
  };
  FrameConverter converter(*codec);
  for (size_t i = 0; i < video.frames.size(); ++i) {
    AVFrame* frame = converter.Convert(video.frames[i], static_cast<int64_t>(i));
    Check(avcodec_send_frame(codec.get(), frame), "encode a frame");
    write_packets();
  }
  Check(avcodec_send_frame(codec.get(), nullptr), "encode the last frames");
  write_packets();
  Check(av_write_trailer(format.get()), "finish the film");
  return bytes;
}

}  // namespace

std::string EncodeMp4(const Video& video, const VideoText& text,
                      std::span<const char* const> encoders) {
  CheckVideo(video, text);
  for (const std::string_view name : encoders) {
    const auto* encoder = std::ranges::find(kVideoEncoders, name, &Encoder::name);
    TAMIAS_CHECK(encoder != std::end(kVideoEncoders));
    if (FindEncoder(*encoder) != nullptr) return Encode(video, text, *encoder, kMp4);
  }
  Fail(ErrorCode::kUnsupported, "video: this FFmpeg has none of the encoders {}",
       fmt::join(encoders, ", "));
}

std::string EncodeVideo(VideoFormat format, const Video& video, const VideoText& text) {
  if (format == VideoFormat::kMp4) return EncodeMp4(video, text);
  CheckVideo(video, {});
  return Encode(video, {}, kWebpEncoder, kWebp);
}

}  // namespace tamias
