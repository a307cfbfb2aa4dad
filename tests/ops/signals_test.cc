// Signal handlers never run where an operation lets the stack pointer leave the stack: see
// SignalsHeldBack in ops/cpu/onednn.cc.
#include <gtest/gtest.h>
#include <omp.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <functional>
#include <thread>
#include <vector>

#include "ops/biased_attention.h"
#include "ops/linear.h"
#include "tests/support/random_tensors.h"

namespace tamias {
namespace {

constexpr int kThreads = 2;
constexpr int kSignal = SIGUSR1;

struct Stack {
  const char* begin = nullptr;
  const char* end = nullptr;
};
thread_local Stack own_stack;
std::atomic<int> handled{0};
std::atomic<int> beside_stack{0};

void Note(int) {
  ++handled;
  const auto* frame = static_cast<const char*>(__builtin_frame_address(0));
  if (own_stack.begin == nullptr) return;
  if (frame < own_stack.begin || frame >= own_stack.end) ++beside_stack;
}

Stack StackOfThread() {
  pthread_attr_t attributes;
  pthread_getattr_np(pthread_self(), &attributes);
  void* begin = nullptr;
  size_t size = 0;
  pthread_attr_getstack(&attributes, &begin, &size);
  pthread_attr_destroy(&attributes);
  return {static_cast<const char*>(begin), static_cast<const char*>(begin) + size};
}

// Sends the signal to each of these threads, again and again while it lives.
class Sender {
 public:
  explicit Sender(const std::vector<pid_t>& threads)
      : thread_([threads](const std::stop_token& stop) {
          while (!stop.stop_requested()) {
            for (const pid_t id : threads) syscall(SYS_tgkill, getpid(), id, kSignal);
            std::this_thread::sleep_for(std::chrono::microseconds(50));
          }
        }) {}

 private:
  std::jthread thread_;
};

// Runs the operation until the calling thread has handled some signals.
void ExpectHandlersOnStacks(const std::function<void()>& operation) {
  operation();  // makes the threads
  std::vector<pid_t> threads(kThreads);
#pragma omp parallel num_threads(kThreads)
  {
    own_stack = StackOfThread();
    threads[static_cast<size_t>(omp_get_thread_num())] = static_cast<pid_t>(syscall(SYS_gettid));
  }
  handled = 0;
  beside_stack = 0;
  struct sigaction before {};
  struct sigaction action {};
  action.sa_handler = Note;
  sigaction(kSignal, &action, &before);
  {
    const Sender sender(threads);
    for (int i = 0; i < 1000 && (i < 100 || handled < 100); ++i) operation();
  }
  sigaction(kSignal, &before, nullptr);
  EXPECT_GT(handled, 0);
  EXPECT_EQ(beside_stack, 0);
}

// Few rows, many columns: oneDNN multiplies without copying the operands first.
TEST(Signals, WaitForALinearLayer) {
  Random random(1);
  Context context(kThreads);
  const Tensor input = random.Normal({64, 1024}), weight = random.Normal({512, 1024});
  Tensor output({64, 512}, DType::kF32);
  ExpectHandlersOnStacks([&] { Linear(context, input.view(), weight.view(), {}, output.view()); });
}

TEST(Signals, WaitForAttentionWithABias) {
  Random random(2);
  Context context(kThreads);
  const Tensor query = random.Normal({1, 1, 64, 512}), key = random.Normal({1, 1, 512, 512});
  const Tensor value = random.Normal({1, 1, 512, 512});
  Tensor output({1, 1, 64, 512}, DType::kF32);
  const BiasedAttentionInputs inputs = {
      .query = query.view(), .key = key.view(), .value = value.view()};
  ExpectHandlersOnStacks([&] { BiasedAttention(context, inputs, output.view()); });
}

}  // namespace
}  // namespace tamias
