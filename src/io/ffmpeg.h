// What the users of FFmpeg's libraries share: ownership of its objects, and its silence.
#pragma once

extern "C" {
#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libswscale/swscale.h>
}

#include <memory>
#include <mutex>

namespace tamias::ffmpeg {

struct Free {
  void operator()(AVFormatContext* format) const { avformat_free_context(format); }
  void operator()(AVCodecContext* codec) const { avcodec_free_context(&codec); }
  void operator()(AVFrame* frame) const { av_frame_free(&frame); }
  void operator()(AVPacket* packet) const { av_packet_free(&packet); }
  void operator()(SwsContext* converter) const { sws_freeContext(converter); }
};
template <typename T>
using Owned = std::unique_ptr<T, Free>;

// FFmpeg's log level belongs to the process: quiet while something is encoded or decoded, then as
// it was. One thing at a time for that.
class QuietLog {
 public:
  QuietLog() : lock_(mutex_), level_(av_log_get_level()) { av_log_set_level(AV_LOG_QUIET); }
  ~QuietLog() { av_log_set_level(level_); }
  QuietLog(const QuietLog&) = delete;
  QuietLog& operator=(const QuietLog&) = delete;

 private:
  static inline std::mutex mutex_;
  std::lock_guard<std::mutex> lock_;
  int level_;
};

}  // namespace tamias::ffmpeg
