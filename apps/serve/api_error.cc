// The library's errors as answers; paths end at blanks, quotes, brackets and colons.
#include "api_error.h"

#include <algorithm>
#include <utility>

namespace tamias::serve {
namespace {

constexpr std::string_view kPathEnds = " \t\n'\"(),:;";

// The library's names of what has another here, as its messages begin.
constexpr std::pair<std::string_view, std::string_view> kFields[] = {
    {"num_frames:", "frames:"},
    {"set:", "sparsity:"},
    {"setting '", "sparsity: '"},
    {"profile '", "profile: '"},
};

std::string InFieldsOfTheApi(std::string message) {
  for (const auto& [theirs, ours] : kFields) {
    if (message.starts_with(theirs)) return message.replace(0, theirs.size(), ours);
  }
  return message;
}

// "width" of "width: expected ...".
std::string ParameterOf(std::string_view message) {
  const size_t colon = message.find(':');
  if (colon == std::string_view::npos) return "";
  const std::string_view name = message.substr(0, colon);
  const bool is_name = !name.empty() && std::ranges::all_of(name, [](char c) {
    return (c >= 'a' && c <= 'z') || c == '_' || c == '.';
  });
  return is_name ? std::string(name) : "";
}

}  // namespace

ApiError InvalidRequest(const std::string& param, const std::string& message,
                        const std::string& code) {
  return {400, message, "invalid_request_error", code, param};
}

ApiError NotFound(const std::string& message, const std::string& code) {
  return {404, message, "invalid_request_error", code};
}

ApiError Stopping() {
  ApiError error(503, "the server is stopping", "server_error", "stopping");
  error.retry_after_seconds = 5;
  return error;
}

std::string WithoutPaths(std::string_view message) {
  std::string text;
  for (size_t i = 0; i < message.size();) {
    const bool begins = i == 0 || kPathEnds.find(message[i - 1]) != std::string_view::npos;
    if (message[i] != '/' || !begins) {
      text += message[i++];
      continue;
    }
    const size_t end = std::min(message.find_first_of(kPathEnds, i), message.size());
    const std::string_view path = message.substr(i, end - i);
    text += path.substr(path.rfind('/') + 1);
    i = end;
  }
  return text;
}

ApiError FromLibrary(const Error& error) {
  const std::string message = InFieldsOfTheApi(WithoutPaths(error.what()));
  switch (error.code()) {
    case ErrorCode::kInvalidArgument:
    case ErrorCode::kNotFound:  // a profile
    case ErrorCode::kUnsupported:
      return InvalidRequest(ParameterOf(message), message);
    case ErrorCode::kOutOfMemory:
      return InvalidRequest(ParameterOf(message), message, "too_large");
    case ErrorCode::kCancelled:
      return {409, "the job was cancelled", "invalid_request_error", "cancelled"};
    default:
      return {500, message, "server_error", "generation_failed"};
  }
}

nlohmann::ordered_json ErrorBody(const ApiError& error) {
  nlohmann::ordered_json body = {{"message", error.what()}, {"type", error.type}};
  body["param"] = nullptr;
  if (!error.param.empty()) body["param"] = error.param;
  body["code"] = error.code;
  return {{"error", body}};
}

}  // namespace tamias::serve
