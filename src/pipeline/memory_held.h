// What of the machine's memory is held when a plan is made. Plans ask where they depend on it.
#pragma once

#include <cstddef>
#include <functional>

#include "tamias/device.h"
#include "tamias/devices.h"

namespace tamias {

struct CardMemory {
  size_t bytes = 0;       // of the card; 0: this machine has none of the number
  size_t free_bytes = 0;  // of it: nobody but this pipeline held it when it was asked for
};

struct MemoryHeld {
  std::function<CardMemory(Device)> card_of = [](Device) { return CardMemory(); };
  // Of the host, that copies of weights keep for other GPUs than these.
  std::function<size_t(const Devices&)> pinned_beside = [](const Devices&) { return size_t{0}; };
};

}  // namespace tamias
