// What others were promised counts whole, whether they have taken it yet or not: of memory that is
// counted by what is in use, some of it counts twice then, which errs on the safe side.
#include "pipeline/memory_check.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/cuda/device.h"
#include "pipeline/device_plan.h"

namespace tamias {
namespace {

// What a process maps or reserves beside the plan without using it, which only limits on address
// space and data count: 16 to 71 MiB measured from 128x128 to 768x768 pixels.
constexpr size_t kSlackBytes = size_t{96} << 20;

std::string Beside(size_t others) { return others > 0 ? " beside the generations under way" : ""; }

std::vector<MemoryLimit> LimitsOf(const GenerateOptions& options) {
  std::vector<MemoryLimit> limits = MemoryLimits();
  if (options.max_memory_bytes > 0) {
    limits.insert(limits.begin(),
                  {MemoryLimit::Kind::kResident, "max_memory", options.max_memory_bytes});
  }
  return limits;
}

void CheckHost(const GenerationPlan& plan, const GenerateOptions& options, const MemoryNeed& need,
               size_t others) {
  const std::vector<MemoryLimit> limits = LimitsOf(options);
  if (const MemoryLimit* limit = FindExceeded(limits, need)) {
    const bool is_space = limit->kind == MemoryLimit::Kind::kAddressSpace;
    Fail(
        ErrorCode::kOutOfMemory,
        "{} need {} of {}{}, but {} is {}: raise it, or choose a smaller size{} (`tamias inspect` "
        "shows the plan)",
        SizeText(plan.settings), BytesText(BytesUnder(*limit, need)),
        is_space ? "address space" : "memory", Beside(others), limit->name, BytesText(limit->bytes),
        need.threads > 1 && limit->kind != MemoryLimit::Kind::kResident ? " or fewer threads" : "");
  }
  GrowStack();
  CheckThreads(need.threads);
}

// device: one of the plan's. What is asked for is what this generation may take, what is free what
// all of them may.
void CheckGpu(const GenerationPlan& plan, const GenerateOptions& options, size_t device,
              size_t others) {
  const DeviceMemory& memory = plan.memory.devices[device];
  cuda::PropertiesOf(plan.devices[device].index);  // throws where there is no such GPU
  const size_t asked = options.max_gpu_memory_bytes;
  const bool is_over_asked = asked > 0 && memory.bytes > asked;
  if (!is_over_asked && memory.bytes + others <= memory.free_bytes) return;
  if (is_over_asked) others = 0;
  Fail(ErrorCode::kOutOfMemory,
       "{} need {} of GPU memory{} at the least{}, but {} (`tamias inspect` shows the plan)",
       SizeText(plan.settings), BytesText(memory.bytes + others), Beside(others),
       plan.placement.weight_dtype ? "" : " (less with weight_dtype fp8_e4m3)",
       is_over_asked ? "max_gpu_memory is " + BytesText(asked)
                     : fmt::format("{} has {}, of which {} are free", memory.device,
                                   BytesText(memory.card_bytes), BytesText(memory.free_bytes)));
}

// Adds to `counted` what it lacks of a copy; returns the bytes on the device and of the host.
std::pair<size_t, size_t> AddCopy(const PlannedCopy& copy,
                                  std::map<CopyKey, PlannedCopy>& counted) {
  const auto [place, is_new] = counted.try_emplace(copy.key(), copy);
  if (is_new) return {copy.device_bytes(), copy.host_bytes()};
  PlannedCopy& there = place->second;
  const size_t on_device = there.device_bytes(), on_host = there.host_bytes();
  there.bytes = std::max(there.bytes, copy.bytes);
  there.prepared_bytes = std::max(there.prepared_bytes, copy.prepared_bytes);
  there.pinned_bytes = std::max(there.pinned_bytes, copy.pinned_bytes);
  return {there.device_bytes() - on_device, there.host_bytes() - on_host};
}

}  // namespace

RunningGenerations::Promise::Promise(const GenerationPlan& plan)
    : new_bytes(plan.new_bytes),
      mapped_bytes(plan.mapped_bytes),
      copies(plan.copies),
      threads(plan.threads) {
  for (size_t i = 0; i < plan.memory.devices.size(); ++i) {
    device_bytes[plan.devices[i].index] = plan.new_device_bytes[i];
  }
  if (!plan.residency.takes_turns) return;
  for (PlannedCopy& copy : copies) copy.bytes = copy.prepared_bytes = 0;
}

RunningGenerations::Entry::Entry(RunningGenerations& running, const GenerationPlan& plan)
    : running_(&running), promise_(running.promises_.emplace(running.promises_.end(), plan)) {}

RunningGenerations::Entry::Entry(Entry&& other) noexcept { *this = std::move(other); }

RunningGenerations::Entry& RunningGenerations::Entry::operator=(Entry&& other) noexcept {
  std::swap(running_, other.running_);
  std::swap(promise_, other.promise_);
  return *this;
}

void RunningGenerations::Entry::Leave() {
  if (running_ == nullptr) return;
  const std::lock_guard lock(running_->mutex_);
  running_->promises_.erase(promise_);
  running_ = nullptr;
}

MemoryNeed RunningGenerations::Others::NeedOf(const GenerationPlan& plan) const {
  const size_t mapped = std::min(mapped_bytes, plan.rest_mapped_bytes);
  return {.resident_bytes = plan.memory.peak_bytes + new_bytes + mapped,
          .new_bytes = plan.new_bytes + HostBytes(plan.copies) + new_bytes + kSlackBytes,
          .file_bytes = plan.memory.spill_bytes,
          .threads = threads + plan.threads};
}

size_t RunningGenerations::Others::BytesOn(Device gpu) const {
  const auto found = device_bytes.find(gpu.index);
  return found == device_bytes.end() ? 0 : found->second;
}

RunningGenerations::Others RunningGenerations::Beside(const GenerationPlan& plan) const {
  Others others;
  std::map<CopyKey, PlannedCopy> counted;
  for (const PlannedCopy& copy : Promise(plan).copies) AddCopy(copy, counted);
  for (const Promise& promise : promises_) {
    others.new_bytes += promise.new_bytes;
    others.mapped_bytes += promise.mapped_bytes;
    others.threads += promise.threads;
    for (const auto& [gpu, bytes] : promise.device_bytes) others.device_bytes[gpu] += bytes;
    for (const PlannedCopy& copy : promise.copies) {
      const auto [on_device, on_host] = AddCopy(copy, counted);
      if (copy.placement.IsOnGpu()) others.device_bytes[copy.placement.device.index] += on_device;
      others.new_bytes += on_host;
    }
  }
  return others;
}

void RunningGenerations::CheckCopies(const GenerationPlan& plan) const {
  for (const Promise& promise : promises_) {
    for (const PlannedCopy& copy : promise.copies) {
      const PlannedCopy* own = FindCopy(plan.copies, copy.key());
      if (own == nullptr || own->streamed == copy.streamed) continue;
      Fail(ErrorCode::kOutOfMemory,
           "{} need the {} on {} with {} of its blocks in turn, but a generation under way has it "
           "there with {}: it must end first",
           SizeText(plan.settings), copy.component->name, Name(copy.placement.device),
           own->streamed.size(), copy.streamed.size());
    }
  }
}

RunningGenerations::Entry RunningGenerations::Enter(const GenerationPlan& plan,
                                                    const GenerateOptions& options) {
  const std::lock_guard lock(mutex_);
  const Others others = Beside(plan);
  CheckHost(plan, options, others.NeedOf(plan), others.new_bytes);
  for (size_t i = 0; i < plan.memory.devices.size(); ++i) {
    CheckGpu(plan, options, i, others.BytesOn(plan.devices[i]));
  }
  CheckCopies(plan);
  return Entry(*this, plan);
}

bool RunningGenerations::HasRoomBeside(const GenerationPlan& plan, const GenerateOptions& options,
                                       const Leftovers& leftovers) const {
  const std::lock_guard lock(mutex_);
  const Others others = Beside(plan);
  MemoryNeed need = others.NeedOf(plan);
  need.resident_bytes += leftovers.host_bytes;
  if (FindExceeded(LimitsOf(options), need) != nullptr) return false;
  const std::optional<size_t> limit = DeviceLimit(options, plan);
  for (size_t i = 0; limit && i < plan.memory.devices.size(); ++i) {
    const size_t held = others.BytesOn(plan.devices[i]) + leftovers.device_bytes[i];
    if (plan.memory.devices[i].bytes + held > *limit) return false;
  }
  return true;
}

bool RunningGenerations::AreOn(Device gpu) const {
  const std::lock_guard lock(mutex_);
  return std::ranges::any_of(
      promises_, [&](const Promise& promise) { return promise.device_bytes.contains(gpu.index); });
}

}  // namespace tamias
