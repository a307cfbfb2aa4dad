// A coder that is causal in time, run over a film one frame at a time: each convolution keeps the
// frames it will see again, so that memory does not grow with the film and the result is that of
// the whole film at once. Frames of one shape come from one pool: a frame goes from the convolution
// that no longer needs it to the next that writes one, and none is ever copied. What lives within a
// frame's turn lies on the workspace's stack. A dry pass over the same code, with views without
// memory, predicts what a real one takes.
// Shapes: H x W picture, C channels, O output channels, kt x k x k kernel.
#pragma once

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/context.h"
#include "base/tensor.h"
#include "io/checkpoint.h"
#include "ops/conv3d.h"

namespace tamias {

// A convolution over a frame and the kt - 1 before it that keeps the frame's size.
struct CausalConv {
  ConstTensorView weight;  // [O, C, kt, k, k], k odd
  ConstTensorView bias;    // [O]

  // Reads "<name>.weight" and "<name>.bias".
  static CausalConv Load(const Weights& weights, const std::string& name, int64_t in, int64_t out,
                         int64_t frames, int64_t side);
};

class FramePass {
 public:
  // A dry pass: nothing is computed, bytes() is what a real one needs. `padding`: what lies beyond
  // the picture's edge and before the first frame. Operations' scratch is left out on request:
  // asking the kernels takes memory and time in proportion to the picture's width.
  FramePass(Context& context, PaddingMode padding, bool plans_scratch)
      : context_(context), padding_(padding), plans_scratch_(plans_scratch) {}
  // The real pass of a dry one; its frames live until the caller's workspace scope ends.
  FramePass(Context& context, const FramePass& dry);

  Context& context() { return context_; }
  size_t bytes() const;

  // What is allocated after the scope began is free again when it ends.
  class Scope {
   public:
    explicit Scope(FramePass& pass)
        : pass_(pass), live_(pass.live_), scope_(pass.context_.workspace()) {}
    ~Scope() { pass_.live_ = live_; }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    FramePass& pass_;
    size_t live_;
    Workspace::Scope scope_;
  };

  // Uninitialised; without memory in a dry pass, where only shapes may be asked for.
  TensorView Allocate(const Shape& shape);
  // Runs the operation, which takes bytes() of workspace; a dry pass only counts them.
  template <typename Bytes, typename Operation>
  void Run(const Bytes& bytes, const Operation& operation) {
    if (!is_dry_) {
      operation();
    } else if (plans_scratch_) {
      peak_ = std::max(peak_, live_ + bytes());
    }
  }

  // A frame [1, H, W, C] to write and then to give to Convolve, which keeps it.
  TensorView TakeFrame(const Shape& shape);
  // The convolution at this frame: the pass knows those before. Each output, [1, H, W, O / n] of n,
  // takes its share of the output channels. accumulate: outputs += convolution + bias.
  void Convolve(const CausalConv& conv, const TensorView& frame, bool accumulate,
                std::initializer_list<TensorView> outputs);
  // What Convolve does but for the convolution: the frame is one that a later one looks back at.
  void Remember(const CausalConv& conv, const TensorView& frame) {
    Convolve(conv, frame, /*accumulate=*/false, {});
  }

 private:
  struct Pool {
    Shape shape;
    int64_t count = 0;  // of frames, in use or free
    std::vector<TensorView> free;
  };
  Pool& PoolOf(const Shape& shape);
  void Accumulate(const CausalConv& conv, const std::vector<TensorView>& frames, int64_t channel,
                  bool accumulate, const TensorView& output);

  Context& context_;
  PaddingMode padding_;
  bool is_dry_ = true;
  bool plans_scratch_ = false;
  std::vector<Pool> pools_;
  std::unordered_map<const CausalConv*, std::vector<TensorView>> history_;  // oldest first
  size_t live_ = 0;  // of a dry pass: bytes on the stack, and the most that were
  size_t peak_ = 0;
};

}  // namespace tamias
