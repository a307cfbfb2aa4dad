// Tensors of other libraries as operations take them, and ours for others, without a copy: DLPack
// (dmlc.github.io/dlpack), the exchange format of PyTorch, JAX, CuPy, NumPy and TVM. Whoever fills
// or reads a DLManagedTensor includes <dlpack/dlpack.h> (libdlpack-dev, or a copy of any version
// up to 1.x: the struct is the unversioned one, which all of them have).
//
//   tamias::ImportedTensor query(from_dlpack);  // a DLManagedTensor* that this now owns
//   tamias::DenseAttention(context, {.query = query.view(), ...}, output);
//   return tamias::ExportDLPack(std::move(output));  // their from_dlpack(...) takes it
//
// Served are f32, f16, bf16, i32, i64 and u8 in memory of the host (CUDA's pinned and managed
// memory included) or of a CUDA GPU, up to Shape::kMaxRank axes, any strides. The caller
// sees to it that work of the other library on that memory has ended, or lends the context the
// queue that it runs in (StreamScope, tamias/context.h).
#pragma once

#include "tamias/tensor.h"

struct DLManagedTensor;  // <dlpack/dlpack.h>

namespace tamias {

// Owns what another library handed over, and gives it back when it ends. Move-only.
class ImportedTensor {
 public:
  // Takes ownership once it returns; the caller keeps what is refused. Throws kInvalidArgument for
  // null, for a shape or address that cannot be right and kUnsupported for what is not served, both
  // naming the field of the struct.
  explicit ImportedTensor(DLManagedTensor* managed);

  // Valid as long as this. It may be written where the other library's tensor may.
  TensorView view() const { return view_; }
  operator TensorView() const { return view_; }  // NOLINT: an imported tensor is used as its view
  operator ConstTensorView() const { return view_; }  // NOLINT

 private:
  struct GiveBack {
    void operator()(DLManagedTensor* managed) const;
  };
  std::unique_ptr<DLManagedTensor, GiveBack> managed_;
  TensorView view_;
};

// Hands a tensor over. The receiver calls the struct's deleter once, from any thread, which frees
// the tensor. Throws kInvalidArgument for an empty tensor.
DLManagedTensor* ExportDLPack(Tensor tensor);

}  // namespace tamias
