// What films must be, and their files; the encoders are those of encode_video.cc.
#include "io/video.h"

#include <string>

#include "base/check.h"
#include "io/atomic_file.h"
#include "io/image_format.h"

namespace tamias {
namespace {

constexpr int kMaxSide = 8192;  // the largest level of H.264 ends at 8192x4320
constexpr double kMinFps = 0.01;
constexpr double kMaxFps = 1000;

}  // namespace

void CheckVideo(const Video& video, const VideoText& text) {
  if (!(video.fps >= kMinFps && video.fps <= kMaxFps)) {
    Fail(ErrorCode::kInvalidArgument, "video: fps: expected a number from {} to {}, found {}",
         kMinFps, kMaxFps, video.fps);
  }
  if (video.frames.empty()) Fail(ErrorCode::kInvalidArgument, "video: no frames");
  const Image& first = video.frames.front();
  CheckVideoSize(first.width, first.height);
  for (size_t i = 0; i < video.frames.size(); ++i) {
    const Image& frame = video.frames[i];
    if (frame.width != first.width || frame.height != first.height) {
      Fail(ErrorCode::kInvalidArgument,
           "video: frame {} is {}x{} pixels, the frames before it are {}x{}", i, frame.width,
           frame.height, first.width, first.height);
    }
    const size_t size = static_cast<size_t>(frame.width) * static_cast<size_t>(frame.height) * 3;
    if (frame.rgb.size() != size) {
      Fail(ErrorCode::kInvalidArgument,
           "video: frame {} of {}x{} pixels needs {} bytes of RGB, found {}", i, frame.width,
           frame.height, size, frame.rgb.size());
    }
  }
  for (const auto& [keyword, value] : text) {
    if (value.find('\0') != std::string::npos) {
      Fail(ErrorCode::kInvalidArgument, "video: text '{}': expected a value without NUL", keyword);
    }
  }
}

std::optional<VideoFormat> VideoFormatOf(const std::filesystem::path& path) {
  const std::string extension = LowerExtension(path);
  if (extension == ".mp4") return VideoFormat::kMp4;
  if (extension == ".webp") return VideoFormat::kWebp;
  return std::nullopt;
}

void CheckVideoSize(int width, int height) {
  if (width < 1 || height < 1 || width > kMaxSide || height > kMaxSide) {
    Fail(ErrorCode::kInvalidArgument, "video: frames of {}x{} pixels: sides must be 1 to {}", width,
         height, kMaxSide);
  }
}

bool IsVideoPath(const std::filesystem::path& path) { return VideoFormatOf(path).has_value(); }

void WriteVideo(const std::filesystem::path& path, const Video& video, const VideoText& text) {
  const std::optional<VideoFormat> format = VideoFormatOf(path);
  if (!format) {
    Fail(ErrorCode::kInvalidArgument, "{}: expected a film's extension: .mp4 or .webp",
         path.string());
  }
  CheckCanWrite(path);  // before the work
  WriteFileAtomically(path, EncodeVideo(*format, video, text));
}

}  // namespace tamias
