// FFmpeg calls back from C: nothing may throw through it, so failures are its error numbers.
#include "io/memory_stream.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <exception>

#include "base/check.h"

namespace tamias {

MemoryStream::MemoryStream(std::string& bytes, bool writing) : bytes_(bytes) {
  constexpr int kBufferBytes = 1 << 16;
  auto* buffer = static_cast<unsigned char*>(av_malloc(kBufferBytes));
  // FFmpeg 7 made the bytes that a writer receives const: the lambda takes both.
  const auto write = [](void* self, auto* from, int size) { return Write(self, from, size); };
  if (buffer != nullptr) {
    context_ = avio_alloc_context(buffer, kBufferBytes, writing ? 1 : 0, this, Read, write, Seek);
  }
  if (context_ == nullptr) {
    av_free(buffer);
    Fail(ErrorCode::kOutOfMemory, "video: no memory for the file");
  }
}

MemoryStream::~MemoryStream() {
  av_freep(&context_->buffer);  // FFmpeg may have replaced the one that it was given
  avio_context_free(&context_);
}

int MemoryStream::Open(AVFormatContext* format, AVIOContext** stream, const char* /*name*/,
                       int flags, AVDictionary** /*options*/) {
  try {
    auto* bytes = static_cast<std::string*>(format->opaque);
    *stream = (new MemoryStream(*bytes, (flags & AVIO_FLAG_WRITE) != 0))->context();
    return 0;
  } catch (const std::exception&) {
    return AVERROR(ENOMEM);
  }
}

int MemoryStream::Close(AVFormatContext* /*format*/, AVIOContext* stream) {
  delete static_cast<MemoryStream*>(stream->opaque);
  return 0;
}

int MemoryStream::Read(void* self, uint8_t* to, int size) {
  auto* stream = static_cast<MemoryStream*>(self);
  const size_t left = stream->bytes_.size() - std::min(stream->position_, stream->bytes_.size());
  const size_t count = std::min(left, static_cast<size_t>(size));
  if (count == 0) return AVERROR_EOF;
  std::memcpy(to, stream->bytes_.data() + stream->position_, count);
  stream->position_ += count;
  return static_cast<int>(count);
}

int MemoryStream::Write(void* self, const uint8_t* from, int size) {
  auto* stream = static_cast<MemoryStream*>(self);
  const size_t end = stream->position_ + static_cast<size_t>(size);
  try {
    if (end > stream->bytes_.size()) stream->bytes_.resize(end);
  } catch (const std::exception&) {
    return AVERROR(ENOMEM);
  }
  std::memcpy(stream->bytes_.data() + stream->position_, from, static_cast<size_t>(size));
  stream->position_ = end;
  return size;
}

int64_t MemoryStream::Seek(void* self, int64_t offset, int whence) {
  auto* stream = static_cast<MemoryStream*>(self);
  const auto size = static_cast<int64_t>(stream->bytes_.size());
  if (whence == AVSEEK_SIZE) return size;
  int64_t from = 0;
  if (whence == SEEK_CUR) from = static_cast<int64_t>(stream->position_);
  if (whence == SEEK_END) from = size;
  if (from + offset < 0) return AVERROR(EINVAL);
  stream->position_ = static_cast<size_t>(from + offset);
  return from + offset;
}

}  // namespace tamias
