// Ctrl-C: the first one asks the running generation to stop after its current step, so that nothing
// is left half-written; the second one ends the program at once.
#pragma once

namespace tamias::cli {

void InstallInterruptHandler();
bool Interrupted();

}  // namespace tamias::cli
