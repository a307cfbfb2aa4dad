// The devices of one generation.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "tamias/device.h"

namespace tamias {

// One device, or several GPUs of one kind that share the work; the first of them does what is not
// shared.
using Devices = std::vector<Device>;

// Names with commas between them: "cpu", "cuda:0,cuda:1". Throws kInvalidArgument as ParseDevice,
// for a device that is named twice and for the CPU beside others.
Devices ParseDevices(std::string_view text);
// As ParseDevices reads them.
std::string Name(const Devices& devices);

// Throws kInvalidArgument where GPUs of this machine are of different kinds. Says nothing of those
// that it does not have.
void CheckOneKind(const Devices& devices);

}  // namespace tamias
