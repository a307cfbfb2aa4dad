// What the machine offers and what this process uses of it.
#pragma once

#include <cstddef>
#include <string>

namespace tamias {

// Physical memory in bytes.
size_t PhysicalMemoryBytes();
// The largest resident set of this process so far, in bytes, mapped files included.
size_t PeakResidentBytes();
// The resident set of this process now, in bytes, mapped files included.
size_t ResidentBytes();
// The processor's name and the cores this process may use: "Intel(R) Xeon(R) Processor, 2 cores".
std::string MachineName();

}  // namespace tamias
