//   --BOUNDARY CRLF headers CRLF CRLF content CRLF --BOUNDARY CRLF ... CRLF --BOUNDARY--
#include "form.h"

#include <algorithm>
#include <cctype>

#include "api_error.h"

namespace tamias::serve {
namespace {

constexpr size_t kMaxParts = 64;
constexpr size_t kMaxHeaderBytes = 4096;  // of one part
constexpr size_t kMaxBoundary = 70;       // RFC 2046
constexpr std::string_view kLineEnd = "\r\n";

[[noreturn]] void Refuse(const std::string& problem) {
  throw InvalidRequest("", "body: not a readable form: " + problem, "invalid_form");
}

std::string LowerCase(std::string_view text) {
  std::string lower(text);
  std::ranges::transform(lower, lower.begin(),
                         [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return lower;
}

std::string_view Trimmed(std::string_view text) {
  const size_t begin = text.find_first_not_of(" \t");
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t") - begin + 1);
}

// The value of `name` in "type; a=1; name=\"x\"", quoted or not; empty: it is not there.
std::string Parameter(std::string_view header, std::string_view name) {
  size_t at = header.find(';');
  while (at < header.size()) {
    const size_t equals = header.find('=', ++at);
    if (equals == std::string_view::npos) return "";
    const std::string key = LowerCase(Trimmed(header.substr(at, equals - at)));
    std::string value;
    at = equals + 1;
    if (at < header.size() && header[at] == '"') {
      for (++at; at < header.size() && header[at] != '"'; ++at) {
        if (header[at] == '\\' && at + 1 < header.size()) ++at;
        value += header[at];
      }
      at = std::min(header.find(';', at), header.size());
    } else {
      const size_t end = std::min(header.find(';', at), header.size());
      value = Trimmed(header.substr(at, end - at));
      at = end;
    }
    if (key == name) return value;
  }
  return "";
}

// The field's name, of a part's headers.
std::string NameOf(std::string_view headers) {
  while (!headers.empty()) {
    const size_t end = std::min(headers.find(kLineEnd), headers.size());
    const std::string_view line = headers.substr(0, end);
    headers.remove_prefix(std::min(end + kLineEnd.size(), headers.size()));
    const size_t colon = line.find(':');
    if (colon == std::string_view::npos) Refuse("a part's header without a colon");
    if (LowerCase(line.substr(0, colon)) != "content-disposition") continue;
    return Parameter(line.substr(colon + 1), "name");
  }
  return "";
}

}  // namespace

std::string MediaType(std::string_view content_type) {
  return LowerCase(Trimmed(content_type.substr(0, content_type.find(';'))));
}

std::vector<FormPart> ReadForm(std::string_view body, std::string_view content_type) {
  const std::string boundary = Parameter(content_type, "boundary");
  if (boundary.empty() || boundary.size() > kMaxBoundary) {
    Refuse("Content-Type without a boundary of 1 to 70 characters");
  }
  const std::string delimiter = "\r\n--" + boundary;
  if (!body.starts_with(std::string_view(delimiter).substr(kLineEnd.size()))) {
    Refuse("it does not begin with its boundary");
  }
  std::vector<FormPart> parts;
  size_t at = delimiter.size() - kLineEnd.size();
  while (!body.substr(at).starts_with("--")) {
    if (!body.substr(at).starts_with(kLineEnd)) Refuse("a boundary that does not end its line");
    if (parts.size() == kMaxParts) Refuse("more than 64 parts");
    const size_t headers = at + kLineEnd.size();
    // From the line end on, so that a part may have no headers: it is refused for its name.
    const size_t content = body.substr(0, at + kMaxHeaderBytes).find("\r\n\r\n", at);
    if (content == std::string_view::npos) Refuse("a part without an end of its headers");
    const size_t begin = content + 2 * kLineEnd.size();
    const size_t end = body.find(delimiter, begin - kLineEnd.size());
    if (end == std::string_view::npos) Refuse("it ends before its last boundary");
    FormPart& part = parts.emplace_back();
    part.name = NameOf(body.substr(headers, std::max(content, headers) - headers));
    if (part.name.empty()) Refuse("a part without a name");
    part.content = body.substr(begin, std::max(end, begin) - begin);
    at = end + delimiter.size();
  }
  return parts;
}

}  // namespace tamias::serve
