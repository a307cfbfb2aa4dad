// The bytes of one client, with an end to its patience and to ours: a request must have come within
// a time and a size, an answer must be taken at some pace, and a stop of the server ends the wait.
#pragma once

#include <httplib.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <string>

namespace tamias::serve {

class Connection final : public httplib::Stream {
 public:
  // max_bytes: of the whole request. Does not close the socket.
  Connection(socket_t socket, size_t max_bytes, const std::atomic<bool>& is_stopping);

  bool is_readable() const override;
  bool is_writable() const override;
  ssize_t read(char* bytes, size_t size) override;
  ssize_t write(const char* bytes, size_t size) override;
  void get_remote_ip_and_port(std::string& ip, int& port) const override;
  void get_local_ip_and_port(std::string& ip, int& port) const override;
  socket_t socket() const override { return socket_; }

  // Whether anything was sent.
  bool has_written() const { return has_written_; }
  // Whether the client closed its side.
  bool HasLeft() const;
  // Sends our end and takes what still comes for a moment: closing with bytes unread would take
  // the answer away from a client that is still sending.
  void Linger();

 private:
  using Clock = std::chrono::steady_clock;
  // Whether the socket is ready for `events` before the deadline.
  bool Wait(short events, Clock::time_point deadline) const;

  socket_t socket_;
  size_t bytes_left_;
  const std::atomic<bool>& is_stopping_;
  Clock::time_point read_deadline_;
  std::string buffer_;
  size_t buffer_position_ = 0;
  bool has_written_ = false;
};

}  // namespace tamias::serve
