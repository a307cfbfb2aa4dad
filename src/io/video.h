// MP4 by the encoders that FFmpeg has; what writes films in any format is declared in
// tamias/video.h.
#pragma once

#include <map>
#include <span>
#include <string>

#include "tamias/video.h"

namespace tamias {

// Text by keyword, see WriteVideo.
using VideoText = std::map<std::string, std::string>;

// Throws kInvalidArgument for a film and a text that WriteVideo would not take.
void CheckVideo(const Video& video, const VideoText& text);

// FFmpeg's encoders whose films browsers play from an MP4, best first.
inline constexpr const char* kMp4Encoders[] = {"libx264", "libvpx-vp9", "libaom-av1"};

// The bytes of an MP4 by the first of `encoders` that FFmpeg has. Throws as EncodeVideo does.
std::string EncodeMp4(const Video& video, const VideoText& text,
                      std::span<const char* const> encoders = kMp4Encoders);

}  // namespace tamias
