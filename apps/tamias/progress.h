// Progress of a generation: a bar that redraws itself on a terminal, a line now and then elsewhere.
// While it lives, Ctrl-C asks the generation to stop after its current step.
#pragma once

#include <string>

#include "interrupt.h"
#include "tamias/pipeline.h"

namespace tamias::cli {

class ProgressPrinter {
 public:
  // label: what runs ("dense", "accelerated"), may be empty. quiet: print nothing.
  ProgressPrinter(std::string label, bool quiet);
  ~ProgressPrinter();

  // False once the user has interrupted: hand it to Pipeline::Generate.
  bool operator()(const Progress& progress);
  // Ends the bar's line: whoever prints something else while this lives calls it before.
  void EndLine();

 private:
  void DrawBar(const Progress& progress);
  void PrintLine(const Progress& progress);

  RememberSignals signals_;
  std::string label_;
  bool quiet_;
  bool terminal_;
  bool line_open_ = false;
  int last_tenth_ = -1;
  Stage last_stage_ = Stage::kEncodePrompt;
  int last_image_ = 0;
};

}  // namespace tamias::cli
