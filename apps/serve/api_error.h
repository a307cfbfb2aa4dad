// What a request is answered with when it cannot be served: an HTTP status and the body that
// OpenAI's clients read, {"error": {"message", "type", "param", "code"}}.
#pragma once

#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <string_view>

#include "tamias/error.h"

namespace tamias::serve {

struct ApiError : std::runtime_error {
  ApiError(int http_status, const std::string& message, std::string error_type,
           std::string error_code, std::string parameter = "")
      : std::runtime_error(message),
        status(http_status),
        type(std::move(error_type)),
        code(std::move(error_code)),
        param(std::move(parameter)) {}

  int status;
  std::string type;
  std::string code;
  std::string param;            // the field at fault; empty: none
  int retry_after_seconds = 0;  // above 0: sent as Retry-After
  std::string allowed_methods;  // of 405: sent as Allow
};

// 400: the field, what was expected and what was found.
ApiError InvalidRequest(const std::string& param, const std::string& message,
                        const std::string& code = "invalid_value");
// 404.
ApiError NotFound(const std::string& message, const std::string& code = "not_found");
// 503 while the server ends.
ApiError Stopping();

// The library's one line, without paths of this machine. What the request asked for is 400, what
// failed here is 500.
ApiError FromLibrary(const Error& error);

// Absolute paths are cut to the name of their file: "/srv/models/x/vae/config.json: ..." becomes
// "config.json: ...".
std::string WithoutPaths(std::string_view message);

nlohmann::ordered_json ErrorBody(const ApiError& error);

}  // namespace tamias::serve
