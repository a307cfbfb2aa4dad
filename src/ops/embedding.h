// Table lookup: output[i, :] = table[ids[i], :], widened to fp32.
#pragma once

#include "tamias/context.h"
#include "tamias/tensor.h"

namespace tamias {

// table [V, d] f32, f16 or bf16, last stride 1; ids [...] i32, contiguous, each in [0, V), in
// memory of the host whatever the context's device, as a tokenizer makes them; output [..., d] f32,
// contiguous. Throws kInvalidArgument, naming place, id and V, for an id out of range.
void Embedding(Context& context, ConstTensorView table, ConstTensorView ids, TensorView output);

namespace reference {
void Embedding(Context& context, ConstTensorView table, ConstTensorView ids, TensorView output);
}  // namespace reference
namespace cpu {
void Embedding(Context& context, ConstTensorView table, ConstTensorView ids, TensorView output);
}  // namespace cpu

// On a GPU: output f32, f16 or bf16, too; d a multiple of 8, the table's rows begin at multiples of
// 16 bytes. The ids lie on the device and are not checked: one out of range gives a row of zeros.
// Returns once the work is enqueued.
namespace cuda {
class Stream;
void Embedding(Stream& stream, ConstTensorView table, ConstTensorView ids, TensorView output);
}  // namespace cuda

}  // namespace tamias
