#include "progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <utility>

#include "interrupt.h"

namespace tamias::cli {
namespace {

constexpr int kBarWidth = 30;

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

}  // namespace

ProgressPrinter::ProgressPrinter(std::string label, bool quiet)
    : label_(std::move(label)), quiet_(quiet), terminal_(isatty(STDERR_FILENO) != 0) {}

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
  if (line_open_ && (progress.stage != last_stage_ || progress.image != last_image_)) {
    std::fputc('\n', stderr);
  }
  const int total = progress.num_steps > 0 ? progress.num_steps : 1;
  const int filled = kBarWidth * progress.step / total;
  const std::string left = progress.step < total
                               ? fmt::format("{:.0f} s left", progress.seconds_left)
                               : std::string("done");
  const std::string line =
      fmt::format("\r\x1b[K{} [{:=<{}}{:{}}] {}/{} {:6} {}", Prefix(label_, progress), "", filled,
                  "", kBarWidth - filled, progress.step, total, progress.step_kind, left);
  std::fputs(line.c_str(), stderr);
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
