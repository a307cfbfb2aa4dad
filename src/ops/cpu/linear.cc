// The dense layer. Many rows: oneDNN's matrix product, which reads weight [N, K] in place as the
// transposed right-hand side (repacking it per call gains nothing: measured within 3 % on AVX-512
// for K, N from 256 to 4096). bf16 weights are multiplied as they are where activations are bf16
// and the processor does that; else 16-bit weights are widened panel by panel, a panel of outputs
// being small enough to stay in the last-level cache. Few rows (modulations, pooled embeddings):
// dot products that stream the weights once, widening them in registers.
#include "ops/linear.h"

#include "ops/cpu/onednn.h"
#include "ops/cpu/rows.h"
#include "ops/cpu/widen.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/cpu/linear.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "ops/cpu/lanes-inl.h"
#include "ops/cpu/widen-inl.h"

HWY_BEFORE_NAMESPACE();
namespace tamias {
namespace HWY_NAMESPACE {
namespace {
namespace hn = hwy::HWY_NAMESPACE;

// output[n] = input . weight[n] for `count` rows of the weight.
template <typename T>
HWY_INLINE void DotRows(const float* input, const T* weight, int64_t weight_stride, int64_t count,
                        size_t depth, float* output) {
  for (int64_t n = 0; n < count; ++n) {
    const T* row = weight + n * weight_stride;
    output[n] = lanes::Sum(depth, [&](auto d, size_t i) HWY_ATTR {
      return hn::Mul(hn::LoadU(d, input + i), lanes::LoadWidened(d, row + i));
    });
  }
}

void DotFloat(const float* input, const void* weight, int64_t weight_stride, int64_t count,
              size_t depth, float* output) {
  DotRows(input, static_cast<const float*>(weight), weight_stride, count, depth, output);
}
void DotFloat16(const float* input, const void* weight, int64_t weight_stride, int64_t count,
                size_t depth, float* output) {
  DotRows(input, static_cast<const hwy::float16_t*>(weight), weight_stride, count, depth, output);
}
void DotBFloat16(const float* input, const void* weight, int64_t weight_stride, int64_t count,
                 size_t depth, float* output) {
  DotRows(input, static_cast<const hwy::bfloat16_t*>(weight), weight_stride, count, depth, output);
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace tamias
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tamias {
HWY_EXPORT(DotFloat);
HWY_EXPORT(DotFloat16);
HWY_EXPORT(DotBFloat16);

namespace {

// Up to here dot products beat the matrix product: its kernels want at least a tile of rows.
constexpr int64_t kFewRows = 8;
// Bytes of fp32 weights that are widened at a time.
constexpr int64_t kPanelBytes = int64_t{8} << 20;
constexpr int64_t kPanelGranularity = 64;  // outputs; four vectors, a tile of the matrix product

int64_t PanelOutputs(int64_t input_features, int64_t output_features, DType weight_dtype) {
  if (weight_dtype == DType::kF32) return output_features;
  const int64_t outputs = kPanelBytes / (4 * std::max<int64_t>(1, input_features));
  return std::min(output_features,
                  std::max(kPanelGranularity, outputs / kPanelGranularity * kPanelGranularity));
}

dnnl::matmul::primitive_desc MatmulDesc(const ConstTensorView& input_rows,
                                        const ConstTensorView& weight, bool has_bias,
                                        const ConstTensorView& output_rows, LinearOptions options) {
  const int64_t rows = input_rows.dim(0), outputs = weight.dim(0), depth = weight.dim(1);
  const auto input = cpu::FloatDesc({rows, depth}, {input_rows.stride(0), 1}, input_rows.dtype());
  const auto transposed = cpu::FloatDesc({depth, outputs}, {1, weight.stride(0)}, weight.dtype());
  const auto output =
      cpu::FloatDesc({rows, outputs}, {output_rows.stride(0), 1}, output_rows.dtype());
  const auto attributes = cpu::OnednnAttributes(options.activation, options.accumulate);
  if (!has_bias) {
    return {dnnl::matmul::desc(input, transposed, output), attributes, cpu::OnednnEngine()};
  }
  const auto bias = cpu::FloatDesc({1, outputs}, {outputs, 1});
  return {dnnl::matmul::desc(input, transposed, bias, output), attributes, cpu::OnednnEngine()};
}

// input [M, K] and weight [N, K] f32, output [M, N] f32; or the first two bf16, and it either;
// strided rows.
void Matmul(Context& context, const ConstTensorView& input, const ConstTensorView& weight,
            const float* bias, const TensorView& output, LinearOptions options) {
  const auto desc = MatmulDesc(input, weight, bias != nullptr, output, options);
  if (context.IsPlanning()) return cpu::PlanOnednn(context, desc.scratchpad_desc());
  const dnnl::engine& engine = cpu::OnednnEngine();
  std::unordered_map<int, dnnl::memory> arguments = {
      {DNNL_ARG_SRC, dnnl::memory(desc.src_desc(), engine, const_cast<void*>(input.raw()))},
      {DNNL_ARG_WEIGHTS,
       dnnl::memory(desc.weights_desc(), engine, const_cast<void*>(weight.raw()))},
      {DNNL_ARG_DST, dnnl::memory(desc.dst_desc(), engine, output.raw())}};
  if (bias != nullptr) {
    arguments.insert_or_assign(DNNL_ARG_BIAS,
                               dnnl::memory(desc.bias_desc(), engine, const_cast<float*>(bias)));
  }
  cpu::ExecuteOnednn(context, dnnl::matmul(desc), desc.scratchpad_desc(), std::move(arguments));
}

// Many rows, in fp32: widens 16-bit weights one panel of outputs after the other.
void MatmulPanels(Context& context, const ConstTensorView& input, const ConstTensorView& weight,
                  const float* bias, const TensorView& output, LinearOptions options) {
  const int64_t outputs = weight.dim(0);
  if (weight.dtype() == DType::kF32) return Matmul(context, input, weight, bias, output, options);
  const int64_t panel = PanelOutputs(weight.dim(1), outputs, weight.dtype());
  const TensorView widened = context.workspace().Allocate({panel, weight.dim(1)}, DType::kF32);
  for (int64_t begin = 0; begin < outputs; begin += panel) {
    const int64_t end = std::min(outputs, begin + panel);
    const TensorView rows = widened.Slice(0, 0, end - begin);
    if (!context.IsPlanning()) cpu::Convert(context, weight.Slice(0, begin, end), rows);
    Matmul(context, input, rows, bias == nullptr ? nullptr : bias + begin,
           output.Slice(1, begin, end), options);
  }
}

// Many rows: in bf16 where that is what weights and the context's activations are and the processor
// multiplies, else in fp32.
void MatmulOfAny(Context& context, const ConstTensorView& input, const ConstTensorView& weight,
                 const float* bias, const TensorView& output, LinearOptions options) {
  if (weight.dtype() == DType::kBF16 && cpu::OnednnProductType(context) == DType::kBF16) {
    const ConstTensorView rows = cpu::InType(context, input, DType::kBF16);
    return Matmul(context, rows, weight, bias, output, options);
  }
  const ConstTensorView rows = cpu::Widened(context, input);
  cpu::WithWideOutput(context, output, /*keeps=*/options.accumulate, [&](const TensorView& wide) {
    MatmulPanels(context, rows, weight, bias, wide, options);
  });
}

// Few rows: each weight row is read once, while it is hot for all input rows.
void DotProducts(Context& context, const ConstTensorView& input, const ConstTensorView& weight,
                 const float* bias, const TensorView& output, LinearOptions options) {
  const int64_t rows = input.dim(0), outputs = weight.dim(0), depth = weight.dim(1);
  const TensorView product = context.workspace().Allocate({rows, outputs}, DType::kF32);
  const ConstTensorView wide = cpu::Widened(context, input);
  if (context.IsPlanning()) return;
  const auto* bytes = static_cast<const std::byte*>(weight.raw());
  const auto size = static_cast<int64_t>(SizeOf(weight.dtype()));
  const auto dot = weight.dtype() == DType::kF32   ? HWY_DYNAMIC_DISPATCH(DotFloat)
                   : weight.dtype() == DType::kF16 ? HWY_DYNAMIC_DISPATCH(DotFloat16)
                                                   : HWY_DYNAMIC_DISPATCH(DotBFloat16);
  constexpr int64_t kOutputsPerBlock = 16;
  const int64_t work = std::max<int64_t>(1, rows * depth);
  const int64_t grain = std::max(
      kOutputsPerBlock, cpu::kElementsPerTask / work / kOutputsPerBlock * kOutputsPerBlock);
  ParallelForRanges(context, outputs, grain, [&](int64_t begin, int64_t end, int) {
    for (int64_t n = begin; n < end; n += kOutputsPerBlock) {
      const int64_t count = std::min(kOutputsPerBlock, end - n);
      for (int64_t m = 0; m < rows; ++m) {
        float* to = product.data<float>() + m * outputs + n;
        dot(wide.data<float>() + m * wide.stride(0), bytes + n * weight.stride(0) * size,
            weight.stride(0), count, static_cast<size_t>(depth), to);
        for (int64_t i = 0; bias != nullptr && i < count; ++i) to[i] += bias[n + i];
      }
    }
  });
  cpu::Activate(context, options.activation, product);
  if (options.accumulate) {
    cpu::Axpy(context, 1, product, output);
  } else {
    cpu::Convert(context, product, output);
  }
}

}  // namespace

namespace cpu {

void Linear(Context& context, ConstTensorView input, ConstTensorView weight, ConstTensorView bias,
            TensorView output, LinearOptions options) {
  if (output.NumElements() == 0) return;
  const Rows<2> rows({&input, &output}, /*merge_width=*/false);
  if (!rows.is_uniform()) {
    for (int64_t i = 0; i < input.dim(0); ++i) {
      cpu::Linear(context, input.Select(0, i), weight, bias, output.Select(0, i), options);
    }
    return;
  }
  Workspace::Scope scope(context.workspace());
  const float* biases = WidenedData(context, bias);
  const int64_t m = rows.count(), n = weight.dim(0), k = weight.dim(1);
  // A single row has no stride of its own.
  const ConstTensorView input_rows(input.raw(), input.dtype(), {m, k},
                                   {std::max(rows.stride(0), k), 1});
  const TensorView output_rows(output.raw(), output.dtype(), {m, n},
                               {std::max(rows.stride(1), n), 1});
  if (m <= kFewRows || k == 0) {
    return DotProducts(context, input_rows, weight, biases, output_rows, options);
  }
  const OnednnThreads threads(context);
  WithOnednnErrors("linear",
                   [&] { MatmulOfAny(context, input_rows, weight, biases, output_rows, options); });
}

}  // namespace cpu

}  // namespace tamias
#endif  // HWY_ONCE
