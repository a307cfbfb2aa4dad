// What others were promised counts whole, whether they have taken it yet or not: of memory that is
// counted by what is in use, some of it counts twice then, which errs on the safe side.
#include "pipeline/memory_check.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/cuda/device.h"
#include "base/machine.h"

namespace tamias {
namespace {

// What a process maps or reserves beside the plan without using it, which only limits on address
// space and data count: 16 to 71 MiB measured from 128x128 to 768x768 pixels.
constexpr size_t kSlackBytes = size_t{96} << 20;

std::string Beside(size_t others) { return others > 0 ? " beside the generations under way" : ""; }

// others: what they were promised of memory to allocate; others_mapped: of mapped weights.
void CheckHost(const GenerationPlan& plan, const GenerateOptions& options, size_t others,
               size_t others_mapped, int threads) {
  const size_t mapped = std::min(others_mapped, plan.rest_mapped_bytes);
  const MemoryNeed need{.resident_bytes = plan.memory.peak_bytes + others + mapped,
                        .new_bytes = plan.new_bytes + others + kSlackBytes,
                        .file_bytes = plan.memory.spill_bytes,
                        .threads = threads};
  std::vector<MemoryLimit> limits = MemoryLimits();
  if (options.max_memory_bytes > 0) {
    limits.insert(limits.begin(),
                  {MemoryLimit::Kind::kResident, "max_memory", options.max_memory_bytes});
  }
  if (const MemoryLimit* limit = FindExceeded(limits, need)) {
    const bool is_space = limit->kind == MemoryLimit::Kind::kAddressSpace;
    Fail(ErrorCode::kOutOfMemory,
         "{} need {} of {}{}, but {} is {}: raise it, or choose a smaller size{} (`tamias inspect` "
         "shows the plan)",
         SizeText(plan.settings), BytesText(BytesUnder(*limit, need)),
         is_space ? "address space" : "memory", Beside(others), limit->name,
         BytesText(limit->bytes),
         threads > 1 && limit->kind != MemoryLimit::Kind::kResident ? " or fewer threads" : "");
  }
  GrowStack();
  CheckThreads(threads);
}

// device: one of the plan's.
void CheckDevice(const GenerationPlan& plan, const GenerateOptions& options, size_t device,
                 size_t others) {
  const DeviceMemory& memory = plan.memory.devices[device];
  cuda::PropertiesOf(plan.devices[device].index);  // throws where there is no such GPU
  const size_t asked = options.max_gpu_memory_bytes;
  const bool is_asked = asked > 0 && asked < memory.free_bytes;
  if (memory.bytes + others <= (is_asked ? asked : memory.free_bytes)) return;
  Fail(ErrorCode::kOutOfMemory,
       "{} need {} of GPU memory{} at the least{}, but {} (`tamias inspect` shows the plan)",
       SizeText(plan.settings), BytesText(memory.bytes + others), Beside(others),
       plan.placement.weight_dtype ? "" : " (less with weight_dtype fp8_e4m3)",
       is_asked ? "max_gpu_memory is " + BytesText(asked)
                : fmt::format("{} has {}, of which {} are free", memory.device,
                              BytesText(memory.card_bytes), BytesText(memory.free_bytes)));
}

}  // namespace

RunningGenerations::Entry::Entry(RunningGenerations& running, const GenerationPlan& plan)
    : running_(&running),
      new_bytes_(plan.new_bytes),
      mapped_bytes_(plan.mapped_bytes),
      threads_(plan.threads) {
  for (size_t i = 0; i < plan.memory.devices.size(); ++i) {
    device_bytes_[plan.devices[i].index] = plan.new_device_bytes[i];
  }
  running.new_bytes_ += new_bytes_;
  running.mapped_bytes_ += mapped_bytes_;
  for (const auto& [gpu, bytes] : device_bytes_) {
    OnGpu& on_gpu = running.on_gpus_[gpu];
    on_gpu.bytes += bytes;
    ++on_gpu.generations;
  }
  running.threads_ += threads_;
}

RunningGenerations::Entry::Entry(Entry&& other) noexcept { *this = std::move(other); }

RunningGenerations::Entry& RunningGenerations::Entry::operator=(Entry&& other) noexcept {
  std::swap(running_, other.running_);
  std::swap(new_bytes_, other.new_bytes_);
  std::swap(mapped_bytes_, other.mapped_bytes_);
  std::swap(device_bytes_, other.device_bytes_);
  std::swap(threads_, other.threads_);
  return *this;
}

void RunningGenerations::Entry::Leave() {
  if (running_ == nullptr) return;
  const std::lock_guard lock(running_->mutex_);
  running_->new_bytes_ -= new_bytes_;
  running_->mapped_bytes_ -= mapped_bytes_;
  for (const auto& [gpu, bytes] : device_bytes_) {
    OnGpu& on_gpu = running_->on_gpus_[gpu];
    on_gpu.bytes -= bytes;
    --on_gpu.generations;
  }
  running_->threads_ -= threads_;
  running_ = nullptr;
}

RunningGenerations::Entry RunningGenerations::Enter(const GenerationPlan& plan,
                                                    const GenerateOptions& options) {
  const std::lock_guard lock(mutex_);
  CheckHost(plan, options, new_bytes_, mapped_bytes_, threads_ + plan.threads);
  for (size_t i = 0; i < plan.memory.devices.size(); ++i) {
    CheckDevice(plan, options, i, on_gpus_[plan.devices[i].index].bytes);
  }
  return Entry(*this, plan);
}

bool RunningGenerations::AreOn(Device gpu) const {
  const std::lock_guard lock(mutex_);
  const auto found = on_gpus_.find(gpu.index);
  return found != on_gpus_.end() && found->second.generations > 0;
}

}  // namespace tamias
