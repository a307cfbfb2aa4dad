// poll in slices, so that a stop is noticed.
#include "connection.h"

#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace tamias::serve {
namespace {

constexpr auto kReadTime = std::chrono::seconds(15);   // for the whole request
constexpr auto kWriteTime = std::chrono::seconds(15);  // for each piece of the answer
constexpr auto kLingerTime = std::chrono::seconds(2);
constexpr int kSliceMilliseconds = 100;
constexpr size_t kBufferBytes = 16384;
constexpr size_t kLingerBytes = size_t{64} << 20;

}  // namespace

Connection::Connection(socket_t socket, size_t max_bytes, const std::atomic<bool>& is_stopping)
    : socket_(socket),
      bytes_left_(max_bytes),
      is_stopping_(is_stopping),
      read_deadline_(Clock::now() + kReadTime) {}

bool Connection::Wait(short events, Clock::time_point deadline) const {
  // An answer that is on its way still goes out.
  while ((!is_stopping_ || events != POLLIN) && Clock::now() < deadline) {
    pollfd entry{socket_, events, 0};
    const int ready = poll(&entry, 1, kSliceMilliseconds);
    if (ready < 0 && errno != EINTR) return false;
    if (ready > 0) return (entry.revents & (events | POLLHUP)) != 0;
  }
  return false;
}

bool Connection::HasLeft() const {
  pollfd entry{socket_, POLLRDHUP, 0};
  return poll(&entry, 1, 0) > 0 && (entry.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}

bool Connection::is_readable() const { return buffer_position_ < buffer_.size(); }

bool Connection::is_writable() const {
  pollfd entry{socket_, POLLOUT, 0};
  // A client that has shut down its sending side alone still reads.
  return poll(&entry, 1, 0) >= 0 && (entry.revents & (POLLHUP | POLLERR | POLLNVAL)) == 0;
}

ssize_t Connection::read(char* bytes, size_t size) {
  if (buffer_position_ == buffer_.size()) {
    buffer_position_ = 0;
    buffer_.resize(std::min(kBufferBytes, bytes_left_));
    ssize_t got = -1;
    if (!buffer_.empty() && Wait(POLLIN, read_deadline_)) {
      do {
        got = recv(socket_, buffer_.data(), buffer_.size(), 0);
      } while (got < 0 && errno == EINTR);
    }
    buffer_.resize(got > 0 ? static_cast<size_t>(got) : 0);
    bytes_left_ -= buffer_.size();
    if (got <= 0) return got;
  }
  const size_t count = std::min(size, buffer_.size() - buffer_position_);
  std::memcpy(bytes, buffer_.data() + buffer_position_, count);
  buffer_position_ += count;
  return static_cast<ssize_t>(count);
}

ssize_t Connection::write(const char* bytes, size_t size) {
  const Clock::time_point deadline = Clock::now() + kWriteTime;
  while (true) {
    const ssize_t sent = send(socket_, bytes, size, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent >= 0) {
      has_written_ = true;
      return sent;
    }
    if (errno == EINTR) continue;
    if ((errno != EAGAIN && errno != EWOULDBLOCK) || !Wait(POLLOUT, deadline)) return -1;
  }
}

void Connection::get_remote_ip_and_port(std::string& ip, int& port) const {
  ip.clear();
  port = 0;
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  auto* any = reinterpret_cast<sockaddr*>(&address);
  char text[NI_MAXHOST] = "";
  if (getpeername(socket_, any, &size) == 0 &&
      getnameinfo(any, size, text, sizeof text, nullptr, 0, NI_NUMERICHOST) == 0) {
    ip = text;
  }
}

void Connection::get_local_ip_and_port(std::string& ip, int& port) const {
  ip.clear();
  port = 0;
}

void Connection::Linger() {
  shutdown(socket_, SHUT_WR);
  const Clock::time_point deadline = Clock::now() + kLingerTime;
  char bytes[kBufferBytes];
  for (size_t taken = 0; taken < kLingerBytes && Wait(POLLIN, deadline);) {
    const ssize_t got = recv(socket_, bytes, sizeof(bytes), MSG_DONTWAIT);
    if (got == 0 || (got < 0 && errno != EINTR && errno != EAGAIN)) return;
    if (got > 0) taken += static_cast<size_t>(got);
  }
}

}  // namespace tamias::serve
