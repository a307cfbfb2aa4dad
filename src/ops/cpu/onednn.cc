// Shared parts of the oneDNN operations: see the header.
#include "ops/cpu/onednn.h"

#include <sys/mman.h>

#include <csignal>
#include <utility>

#include "base/check.h"
#include "base/machine.h"
#include "ops/cpu/bfloat16.h"

namespace tamias::cpu {
namespace {

// A signal that a program may handle. Not those that a thread raises by what it does: a blocked
// fault would end the process without its handler.
sigset_t AsynchronousSignals() {
  sigset_t signals;
  sigfillset(&signals);
  for (const int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGABRT}) {
    sigdelset(&signals, fault);
  }
  return signals;
}

// While it lives, no signal handler runs on the calling thread or on those of its OpenMP team; what
// comes meanwhile is delivered afterwards, or to another thread. Products of oneDNN up to 3.11.1
// let the stack pointer point into the heap, and a handler's frame would overwrite what lies below
// it (oneDNN's issue 4845). What a user ends or stops a program with still does so at once where
// nobody handles it. The team's other threads are left so: a process has no need of them for
// signals.
class SignalsHeldBack {
 public:
  SignalsHeldBack() {
    sigset_t signals = AsynchronousSignals();
    for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP}) {
      struct sigaction action {};
      if (sigaction(signal, nullptr, &action) == 0 && action.sa_handler == SIG_DFL) {
        sigdelset(&signals, signal);
      }
    }
    pthread_sigmask(SIG_BLOCK, &signals, &before_);
#pragma omp parallel
    pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  }
  ~SignalsHeldBack() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  SignalsHeldBack(const SignalsHeldBack&) = delete;
  SignalsHeldBack& operator=(const SignalsHeldBack&) = delete;

 private:
  sigset_t before_{};
};

}  // namespace

const dnnl::engine& OnednnEngine() {
  static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

void CheckRoomForCode() {
  constexpr size_t kBytes = size_t{16} << 20;  // 64 kernels of the size that it reserves for one
  void* room = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (room == MAP_FAILED) {
    Fail(ErrorCode::kOutOfMemory, "out of memory for compiled kernels ({})", TightestMemoryLimit());
  }
  munmap(room, kBytes);
}

dnnl::memory::data_type OnednnType(DType dtype) {
  using Type = dnnl::memory::data_type;
  return dtype == DType::kBF16 ? Type::bf16 : Type::f32;
}

dnnl::memory::desc FloatDesc(const dnnl::memory::dims& dims, const dnnl::memory::dims& strides,
                             DType dtype) {
  return dnnl::memory::desc(dims, OnednnType(dtype), strides);
}

bool OnednnMultipliesBFloat16() {
  // Each set's number holds the bits of those that it includes.
  constexpr auto kBits = static_cast<unsigned>(dnnl::cpu_isa::avx512_core_bf16);
  return MultipliesBFloat16() &&
         (static_cast<unsigned>(dnnl::get_effective_cpu_isa()) & kBits) == kBits;
}

DType OnednnProductType(const Context& context) {
  const bool is_narrow = context.activation_dtype() == DType::kBF16 && OnednnMultipliesBFloat16();
  return is_narrow ? DType::kBF16 : DType::kF32;
}

dnnl::primitive_attr OnednnAttributes(Activation activation, bool accumulate) {
  dnnl::post_ops operations;
  switch (activation) {
    case Activation::kNone:
      break;
    case Activation::kRelu:
      operations.append_eltwise(1, dnnl::algorithm::eltwise_relu, 0, 0);
      break;
    case Activation::kGeluTanh:
      operations.append_eltwise(1, dnnl::algorithm::eltwise_gelu_tanh, 0, 0);
      break;
    case Activation::kGeluErf:
      operations.append_eltwise(1, dnnl::algorithm::eltwise_gelu_erf, 0, 0);
      break;
    case Activation::kSilu:
      operations.append_eltwise(1, dnnl::algorithm::eltwise_swish, 1, 0);
      break;
    case Activation::kQuickGelu:
      operations.append_eltwise(1, dnnl::algorithm::eltwise_swish, 1.702f, 0);
      break;
    case Activation::kTanh:
      operations.append_eltwise(1, dnnl::algorithm::eltwise_tanh, 0, 0);
      break;
  }
  if (accumulate) operations.append_sum(1);
  dnnl::primitive_attr attributes;
  attributes.set_post_ops(operations);
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  return attributes;
}

void ExecuteOnednn(Context& context, const dnnl::primitive& primitive,
                   const dnnl::memory::desc& scratchpad,
                   std::unordered_map<int, dnnl::memory> arguments) {
  Workspace::Scope scope(context.workspace());
  const auto bytes = static_cast<int64_t>(scratchpad.get_size());
  if (bytes > 0) {
    void* scratch = context.workspace().Allocate({bytes}, DType::kU8).raw();
    arguments.insert_or_assign(DNNL_ARG_SCRATCHPAD,
                               dnnl::memory(scratchpad, OnednnEngine(), scratch));
  }
  const SignalsHeldBack signals;
  dnnl::stream stream(OnednnEngine());
  primitive.execute(stream, arguments);
  stream.wait();
}

void PlanOnednn(Context& context, const dnnl::memory::desc& scratchpad) {
  Workspace::Scope scope(context.workspace());
  const size_t bytes = scratchpad.get_size();
  if (bytes > 0) context.workspace().AllocateBytes(bytes);
}

}  // namespace tamias::cpu
