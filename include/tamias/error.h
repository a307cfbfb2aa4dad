// The one exception type of the C++ interface. Every message is one line that names the file, the
// field or the argument at fault, what was expected and what was found.
#pragma once

#include <stdexcept>
#include <string>

namespace tamias {

enum class ErrorCode {
  kInvalidArgument = 1,  // a value the caller passed (option, shape, type)
  kInvalidFile = 2,      // a file whose content cannot be right (cut off, corrupt, wrong shape)
  kNotFound = 3,         // a file, tensor or profile that does not exist
  kIo = 4,               // the operating system refused (permission, full disk)
  kOutOfMemory = 5,      // the plan, or an allocation, does not fit
  kCancelled = 6,        // the progress callback asked to stop
  kUnsupported = 7,      // valid input that this build or device cannot serve
  kInternal = 8,         // a defect in Tamias
  kDevice = 9,           // there is no GPU, or it or its driver reported an error
};

class Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ErrorCode code() const noexcept { return code_; }

 private:
  ErrorCode code_;
};

}  // namespace tamias
