// What of a GPU's memory is there when a plan is made.
#pragma once

#include <cstddef>
#include <functional>

#include "tamias/device.h"

namespace tamias {

struct CardMemory {
  size_t bytes = 0;       // of the card; 0: this machine has none of the number
  size_t free_bytes = 0;  // of it: nobody but this pipeline held it when it was asked for
};

using CardMemoryOf = std::function<CardMemory(Device)>;
inline const CardMemoryOf kNoCards = [](Device) { return CardMemory(); };

}  // namespace tamias
