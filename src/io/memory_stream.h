// FFmpeg's byte stream (AVIOContext) over a string in memory. A muxer writes, goes back to fill in
// lengths, and opens a second stream to read what it wrote (to move the index of an MP4 to its
// start); the finished bytes then go to disk in one atomic write.
#pragma once

extern "C" {
#include <libavformat/avformat.h>
}

#include <cstddef>
#include <cstdint>
#include <string>

namespace tamias {

class MemoryStream {
 public:
  // Reads or writes `bytes` from its start; writing past the end makes it longer. Throws
  // kOutOfMemory.
  MemoryStream(std::string& bytes, bool writing);
  ~MemoryStream();
  MemoryStream(const MemoryStream&) = delete;
  MemoryStream& operator=(const MemoryStream&) = delete;

  AVIOContext* context() { return context_; }

  // For AVFormatContext::io_open and io_close2; the format's `opaque` is the std::string.
  static int Open(AVFormatContext* format, AVIOContext** stream, const char* name, int flags,
                  AVDictionary** options);
  static int Close(AVFormatContext* format, AVIOContext* stream);

 private:
  static int Read(void* self, uint8_t* to, int size);
  static int Write(void* self, const uint8_t* from, int size);
  static int64_t Seek(void* self, int64_t offset, int whence);

  std::string& bytes_;
  size_t position_ = 0;
  AVIOContext* context_ = nullptr;
};

}  // namespace tamias
