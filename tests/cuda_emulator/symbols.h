// What the symbol table of the program, or library, that the emulator is in tells of its kernels.
#pragma once

#include <cstddef>

namespace tamias::cuda_emulator {

// Bytes of the __shared__ variables that a kernel declares. (`__shared__` is `static thread_local`
// here; the symbol of such a variable has the kernel's in its name, and has its size.) Throws when
// it has no symbols or the function none.
size_t SharedVariableBytes(const void* kernel);

}  // namespace tamias::cuda_emulator
