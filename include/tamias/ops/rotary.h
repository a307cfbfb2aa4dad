// Query and key preparation of one attention, fused: RMS norm over each head (QK norm, Henry et
// al., arXiv 2010.04245), then rotary position embedding (Su et al., arXiv 2104.09864) on adjacent
// pairs: (x[2i], x[2i+1]) -> (x[2i] cos - x[2i+1] sin, x[2i+1] cos + x[2i] sin).
// Shapes: B batch, H heads, N tokens, D head dimension (even).
//
// On a GPU: input, output, norm_weight and the angles (cosine and sine alike) each f32, f16 or
// bf16, arithmetic in fp32; D a multiple of 8 up to 256, rows begin at multiples of 16 bytes. The
// work is enqueued.
#pragma once

#include <span>

#include "tamias/context.h"
#include "tamias/tensor.h"

namespace tamias {

// input, output [B, H, N, D] f32, any strides with last stride 1 (a [B, N, 3, H, D] projection seen
// through Select and Permute, say); output may be the input. norm_weight [D] f32, f16 or bf16, or
// empty: no norm. cosine, sine [N, D] f32, or [H, N, D] where each head has its own angles, each
// angle's value repeated for both members of its pair (diffusers' repeat_interleave form), any
// strides with last stride 1, or both empty: no rotation. With neither this is a copy into the new
// layout.
void RmsNormRotary(Context& context, ConstTensorView input, ConstTensorView norm_weight,
                   float epsilon, ConstTensorView cosine, ConstTensorView sine, TensorView output);

// The arguments of one RmsNormRotary among several.
struct HeadRows {
  ConstTensorView input;
  ConstTensorView norm_weight;
  ConstTensorView cosine, sine;
  TensorView output;
};

// Of each of them, as above; D is the same in all. No output overlaps another's input. What a layer
// prepares together (query and key of text and image, say) is one launch on a GPU.
void RmsNormRotary(Context& context, std::span<const HeadRows> parts, float epsilon);

}  // namespace tamias
