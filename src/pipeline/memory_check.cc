// What others were promised counts whole, whether they have taken it yet or not: of memory that is
// counted by what is in use, some of it counts twice then, which errs on the safe side.
#include "pipeline/memory_check.h"

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

void CheckHost(const GenerationPlan& plan, const GenerateOptions& options, size_t others,
               int threads) {
  const MemoryNeed need{.resident_bytes = plan.memory.peak_bytes + others,
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
  const size_t on_gpu = cuda::PropertiesOf(plan.devices[device].index).memory_bytes;
  const bool is_asked = options.max_gpu_memory_bytes > 0 && options.max_gpu_memory_bytes < on_gpu;
  const size_t limit = is_asked ? options.max_gpu_memory_bytes : on_gpu;
  if (memory.bytes + others <= limit) return;
  Fail(ErrorCode::kOutOfMemory,
       "{} need {} of GPU memory{} at the least{}, {} {} (`tamias inspect` shows the plan)",
       SizeText(plan.settings), BytesText(memory.bytes + others), Beside(others),
       plan.placement.weight_dtype ? "" : " (less with weight_dtype fp8_e4m3)",
       is_asked ? "but max_gpu_memory is" : memory.device + " has", BytesText(limit));
}

}  // namespace

RunningGenerations::Entry::Entry(RunningGenerations& running, const GenerationPlan& plan)
    : running_(&running), new_bytes_(plan.new_bytes), threads_(plan.threads) {
  for (size_t i = 0; i < plan.memory.devices.size(); ++i) {
    device_bytes_[plan.devices[i].index] = plan.new_device_bytes[i];
  }
  running.new_bytes_ += new_bytes_;
  for (const auto& [gpu, bytes] : device_bytes_) running.device_bytes_[gpu] += bytes;
  running.threads_ += threads_;
}

RunningGenerations::Entry::Entry(Entry&& other) noexcept { *this = std::move(other); }

RunningGenerations::Entry& RunningGenerations::Entry::operator=(Entry&& other) noexcept {
  std::swap(running_, other.running_);
  std::swap(new_bytes_, other.new_bytes_);
  std::swap(device_bytes_, other.device_bytes_);
  std::swap(threads_, other.threads_);
  return *this;
}

void RunningGenerations::Entry::Leave() {
  if (running_ == nullptr) return;
  const std::lock_guard lock(running_->mutex_);
  running_->new_bytes_ -= new_bytes_;
  for (const auto& [gpu, bytes] : device_bytes_) running_->device_bytes_[gpu] -= bytes;
  running_->threads_ -= threads_;
  running_ = nullptr;
}

RunningGenerations::Entry RunningGenerations::Enter(const GenerationPlan& plan,
                                                    const GenerateOptions& options) {
  const std::lock_guard lock(mutex_);
  CheckHost(plan, options, new_bytes_, threads_ + plan.threads);
  for (size_t i = 0; i < plan.memory.devices.size(); ++i) {
    CheckDevice(plan, options, i, device_bytes_[plan.devices[i].index]);
  }
  return Entry(*this, plan);
}

}  // namespace tamias
