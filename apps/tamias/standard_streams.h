// The process's own files and limits: standard input, output and error are open whatever the caller
// closed, output that is lost is an error, and a limit on file sizes is one, too, instead of the
// end.
#pragma once

namespace tamias::cli {

// Before anything is opened. A stream that the caller closed (`>&-`) would otherwise be the number
// of the next file: here writing to it fails.
void PrepareProcess();

// Flushes standard output. Throws kIo, "standard output: cannot write: No space left on device",
// when anything written to it was lost; returns false when that is because its reader has gone.
// `error`: the errno value of a failure that was noticed before, else 0.
bool FlushOutput(int error);

}  // namespace tamias::cli
