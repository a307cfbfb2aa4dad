// One convolution of one channels-last picture by oneDNN, and its weights in the layout that the
// chosen kernel wants.
#pragma once

#include <dnnl.hpp>

#include "ops/conv2d.h"
#include "tamias/context.h"
#include "tamias/tensor.h"

namespace tamias::cpu {

// f32 or bf16: what is multiplied, and what is written or added to.
struct ConvTypes {
  DType operands = DType::kF32;
  DType output = DType::kF32;
};

// The kernel for an input of [height, width, C], fixed for a call; weight [O, C, kh, kw].
class OnednnConv2d {
 public:
  OnednnConv2d(int64_t height, int64_t width, const Shape& weight, const ConvTypes& types,
               const Padding& padding, bool has_bias, bool accumulate);

  size_t weight_bytes() const { return desc_.weights_desc().get_size(); }
  // Both want the weights in one layout.
  bool SharesWeights(const OnednnConv2d& other) const {
    return desc_.weights_desc() == other.desc_.weights_desc();
  }

  // weight [O, C, kh, kw] f32, any strides, into the kernel's layout: `packed` of weight_bytes().
  void PackWeights(Context& context, const ConstTensorView& weight, void* packed) const;
  // input and output of the kernel's types.
  void Run(Context& context, const void* input, void* packed, const float* bias,
           void* output) const;

 private:
  dnnl::convolution_forward::primitive_desc desc_;
  dnnl::convolution_forward primitive_;
};

}  // namespace tamias::cpu
