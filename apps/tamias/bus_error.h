// A file that is cut off while it is mapped takes its pages away: reading one ends the process by
// SIGBUS. It ends all the same, but says why.
#pragma once

namespace tamias::cli {

// The process then ends with exit status 1 and one line.
void ExplainBusErrors();

}  // namespace tamias::cli
