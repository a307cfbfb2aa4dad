// What a build without FFmpeg answers (TAMIAS_FFMPEG in cmake/TamiasDependencies.cmake).
#include "base/check.h"
#include "io/jpeg.h"
#include "io/video.h"

namespace tamias {

std::string EncodeMp4(const Video& video, const VideoText& text, std::span<const char* const>) {
  return EncodeVideo(VideoFormat::kMp4, video, text);
}

std::string EncodeVideo(VideoFormat, const Video& video, const VideoText& text) {
  CheckVideo(video, text);
  Fail(ErrorCode::kUnsupported,
       "video: this build of Tamias has no FFmpeg: take the frames, or write them as pictures");
}

Image DecodeJpeg(std::span<const uint8_t>, const std::string& source, int64_t) {
  Fail(ErrorCode::kUnsupported,
       "{}: this build of Tamias has no FFmpeg, which reads JPEG: give a PNG or WebP", source);
}

}  // namespace tamias
