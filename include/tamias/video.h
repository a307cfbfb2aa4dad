// A film in memory and as a file, and how alike two films are, frame by frame.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "tamias/image.h"

namespace tamias {

struct Video {
  double fps = 0;             // frames per second
  std::vector<Image> frames;  // all of one size
};

// Writes a film, complete or not at all, in the format that the extension names:
//   .mp4   H.264 (VP9 or AV1 where FFmpeg has no libx264) of high quality in 4:2:0, index first; an
//          odd side becomes even by repeating its last row or column. Of the text, "Description"
//          becomes the title and "tamias" the comment.
//   .webp  animated WebP that repeats for ever; holds no text.
// The same film and text give the same bytes with one version of FFmpeg. Throws kInvalidArgument
// for another extension, no frames, frames that differ in size or are not 1 to 8192 pixels a side,
// and fps outside 0.01 to 1000; kUnsupported when FFmpeg lacks the encoder, kIo when the file
// cannot be written.
void WriteVideo(const std::filesystem::path& path, const Video& video,
                const std::map<std::string, std::string>& text = {});

// The formats that films are written in.
enum class VideoFormat { kMp4, kWebp };

// By the extension, in any case; nothing for one that is not known.
std::optional<VideoFormat> VideoFormatOf(const std::filesystem::path& path);

// The bytes of such a file. Throws kInvalidArgument and kUnsupported as WriteVideo.
std::string EncodeVideo(VideoFormat format, const Video& video,
                        const std::map<std::string, std::string>& text = {});

// Throws kInvalidArgument for frames that WriteVideo would not take: before there are any.
void CheckVideoSize(int width, int height);

// Whether WriteVideo knows the extension.
bool IsVideoPath(const std::filesystem::path& path);

struct FrameLikeness {
  double psnr = 0;  // dB; infinity for equal frames
  double ssim = 0;
};

// Psnr and Ssim (tamias/image.h) of each frame of `a` with the same frame of `b`. Throws
// kInvalidArgument when the films differ in frames or size.
std::vector<FrameLikeness> CompareVideos(const Video& a, const Video& b);

}  // namespace tamias
