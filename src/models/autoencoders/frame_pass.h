// A coder that is causal in time, run over a film one frame at a time: each convolution keeps the
// frames it will see again, so that memory does not grow with the film and the result is that of
// the whole film at once. Frames of one shape come from one pool: a frame goes from the convolution
// that no longer needs it to the next that writes one, and none is ever copied. What lives within a
// frame's turn lies on the workspace's stack. A counting pass over the same code, which computes
// nothing, tells how many frames of each shape a real one needs.
// Shapes: H x W picture, C channels, O output channels, kt x k x k kernel.
#pragma once

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <unordered_map>
#include <vector>

#include "ops/conv3d.h"
#include "tamias/context.h"
#include "tamias/tensor.h"
#include "tamias/weights.h"

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
  // A counting pass. `padding`: what lies beyond the picture's edge and before the first frame.
  FramePass(Context& context, PaddingMode padding) : context_(context), padding_(padding) {}
  // The real pass of a counted one; its frames live until the caller's workspace scope ends. With a
  // planning context, operations are left out on request: asking the kernels for their scratch
  // takes memory and time in proportion to the picture's width.
  FramePass(Context& context, const FramePass& counted, bool runs_operations = true);

  Context& context() { return context_; }
  // Nothing may be read or written.
  bool is_dry() const { return counts_ || context_.IsPlanning(); }

  // What is allocated after the scope began is free again when it ends.
  class Scope {
   public:
    explicit Scope(FramePass& pass) : scope_(pass.context_.workspace()) {}

   private:
    Workspace::Scope scope_;
  };

  // Uninitialised, in the type of the context's activations or the given one; only shapes may be
  // asked for in a dry pass.
  TensorView Allocate(const Shape& shape) { return Allocate(shape, context_.activation_dtype()); }
  TensorView Allocate(const Shape& shape, DType dtype);
  // Runs an operation where operations run.
  template <typename Operation>
  void Run(const Operation& operation) {
    if (runs_operations_) operation();
  }

  // A frame [1, H, W, C] of activations to write and then to give to Convolve, which keeps it.
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
  bool counts_ = true;
  bool runs_operations_ = false;
  std::vector<Pool> pools_;
  std::unordered_map<const CausalConv*, std::vector<TensorView>> history_;  // oldest first
};

}  // namespace tamias
