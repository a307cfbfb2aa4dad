// The bar on a terminal, with the time that is left; one line per tenth of the steps elsewhere.
#include "progress.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <utility>

namespace tamias::cli {
namespace {

constexpr int kLongestBar = 30;
constexpr int kShortestBar = 5;  // below that none: the numbers say more

const char* Describe(Stage stage) {
  switch (stage) {
    case Stage::kEncodePrompt:
      return "encode prompt";
    case Stage::kDenoise:
      return "denoise";
    case Stage::kDecode:
      return "decode";
  }
  return "";
}

std::string Prefix(const std::string& label, const Progress& progress) {
  std::string prefix = label.empty() ? "" : label + " ";
  if (progress.num_images > 1) {
    prefix += fmt::format("result {}/{} ", progress.image + 1, progress.num_images);
  }
  return prefix + Describe(progress.stage);
}

// A terminal that can go back to the start of a line and clear it.
bool IsTerminal() {
  const char* kind = std::getenv("TERM");
  return isatty(STDERR_FILENO) != 0 && kind != nullptr && std::string_view(kind) != "dumb";
}

int TerminalColumns() {
  constexpr int kUsual = 80;
  winsize size{};
  const bool is_known = ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
  return is_known ? size.ws_col : kUsual;
}

}  // namespace

ProgressPrinter::ProgressPrinter(std::string label, bool quiet)
    : label_(std::move(label)), quiet_(quiet), terminal_(IsTerminal()) {}

ProgressPrinter::~ProgressPrinter() { EndLine(); }

void ProgressPrinter::EndLine() {
  if (line_open_) std::fputc('\n', stderr);
  line_open_ = false;
}

bool ProgressPrinter::operator()(const Progress& progress) {
  if (!quiet_) {
    if (terminal_) {
      DrawBar(progress);
    } else {
      PrintLine(progress);
    }
  }
  return !Interrupted();
}

void ProgressPrinter::DrawBar(const Progress& progress) {
  if (progress.stage != last_stage_ || progress.image != last_image_) EndLine();
  const int total = progress.num_steps > 0 ? progress.num_steps : 1;
  const std::string left = progress.step < total
                               ? fmt::format("{:.0f} s left", progress.seconds_left)
                               : std::string("done");
  std::string line = Prefix(label_, progress);
  const std::string numbers =
      fmt::format(" {}/{} {:6} {}", progress.step, total, progress.step_kind, left);
  // A line that fills the terminal's last column would wrap, and could not be drawn over.
  const int columns = TerminalColumns() - 1;
  const int bar =
      std::min(columns - static_cast<int>(line.size() + numbers.size() + 3), kLongestBar);
  if (bar >= kShortestBar) {
    const int filled = bar * progress.step / total;
    line += fmt::format(" [{:=<{}}{:{}}]", "", filled, "", bar - filled);
  }
  line += numbers;
  line.resize(std::min(line.size(), static_cast<size_t>(std::max(columns, 1))));
  std::fputs(("\r\x1b[K" + line).c_str(), stderr);
  std::fflush(stderr);
  line_open_ = true;
  last_stage_ = progress.stage;
  last_image_ = progress.image;
}

// One line per tenth of the denoising steps, one for each other stage.
void ProgressPrinter::PrintLine(const Progress& progress) {
  const int total = progress.num_steps > 0 ? progress.num_steps : 1;
  const int tenth = 10 * progress.step / total;
  if (progress.stage == last_stage_ && progress.image == last_image_ && tenth == last_tenth_)
    return;
  last_tenth_ = tenth;
  last_stage_ = progress.stage;
  last_image_ = progress.image;
  std::fputs(
      fmt::format("{} {}/{} {}{:.1f} s\n", Prefix(label_, progress), progress.step, total,
                  progress.step_kind.empty() ? "" : progress.step_kind + " ", progress.seconds)
          .c_str(),
      stderr);
}

}  // namespace tamias::cli
