// Attention for encoders: per head and block of query rows, scores by oneDNN's matrix product, bias
// and softmax in place, then the product with the values. Blocks keep the scores in the cache.
#include "ops/biased_attention.h"

#include "ops/cpu/onednn.h"
#include "ops/cpu/rows.h"
#include "ops/cpu/widen.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/cpu/biased_attention.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <limits>

#include "hwy/contrib/math/math-inl.h"
#include "ops/cpu/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace tamias {
namespace HWY_NAMESPACE {
namespace {
namespace hn = hwy::HWY_NAMESPACE;

// The largest of scale * scores + bias, which replaces the scores.
HWY_INLINE float BiasedMaximum(float* scores, const float* bias, float scale, size_t count) {
  const hn::ScalableTag<float> d;
  auto largest = hn::Set(d, -std::numeric_limits<float>::infinity());
  float rest = -std::numeric_limits<float>::infinity();
  lanes::ForEach(count, [&](auto tag, size_t i) HWY_ATTR {
    auto v = hn::Mul(hn::LoadU(tag, scores + i), hn::Set(tag, scale));
    if (bias != nullptr) v = hn::Add(v, hn::LoadU(tag, bias + i));
    hn::StoreU(v, tag, scores + i);
    if constexpr (std::is_same_v<decltype(tag), hn::ScalableTag<float>>) {
      largest = hn::Max(largest, v);
    } else {
      rest = HWY_MAX(rest, hn::GetLane(v));
    }
  });
  return HWY_MAX(rest, hn::GetLane(hn::MaxOfLanes(d, largest)));
}

// scores[j] = softmax(scale * scores + bias)[j] for j < count, and 0 up to `width`.
void SoftmaxRow(float* scores, const float* bias, float scale, size_t count, size_t width) {
  const float largest = BiasedMaximum(scores, bias, scale, count);
  const float sum = lanes::Sum(count, [&](auto d, size_t i) HWY_ATTR {
    const auto e = hn::Exp(d, hn::Sub(hn::LoadU(d, scores + i), hn::Set(d, largest)));
    hn::StoreU(e, d, scores + i);
    return e;
  });
  const float inverse = 1.0f / sum;
  lanes::ForEach(count, [&](auto d, size_t i) HWY_ATTR {
    hn::StoreU(hn::Mul(hn::LoadU(d, scores + i), hn::Set(d, inverse)), d, scores + i);
  });
  for (size_t i = count; i < width; ++i) scores[i] = 0;
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace tamias
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tamias {
HWY_EXPORT(SoftmaxRow);

namespace {

// Scores of one block: 4 MB, at most one head.
constexpr int64_t kBlockScores = int64_t{1} << 20;

int64_t RowsPerBlock(int64_t queries, int64_t keys) {
  return std::min(queries, std::max<int64_t>(16, kBlockScores / std::max<int64_t>(1, keys)));
}

// out = a b for strided matrices; b may be transposed by its strides.
dnnl::matmul::primitive_desc MatmulDesc(const ConstTensorView& a, const ConstTensorView& b,
                                        const ConstTensorView& out) {
  const auto desc_of = [](const ConstTensorView& view) {
    return cpu::FloatDesc({view.dim(0), view.dim(1)}, {view.stride(0), view.stride(1)});
  };
  return {dnnl::matmul::desc(desc_of(a), desc_of(b), desc_of(out)),
          cpu::OnednnAttributes(Activation::kNone, false), cpu::OnednnEngine()};
}

void Matmul(Context& context, const ConstTensorView& a, const ConstTensorView& b,
            const TensorView& out) {
  const dnnl::engine& engine = cpu::OnednnEngine();
  const dnnl::matmul::primitive_desc desc = MatmulDesc(a, b, out);
  if (context.IsPlanning()) return cpu::PlanOnednn(context, desc.scratchpad_desc());
  cpu::ExecuteOnednn(
      context, dnnl::matmul(desc), desc.scratchpad_desc(),
      {{DNNL_ARG_SRC, dnnl::memory(desc.src_desc(), engine, const_cast<void*>(a.raw()))},
       {DNNL_ARG_WEIGHTS, dnnl::memory(desc.weights_desc(), engine, const_cast<void*>(b.raw()))},
       {DNNL_ARG_DST, dnnl::memory(desc.dst_desc(), engine, out.raw())}});
}

// In place of the scores of rows [begin, begin + rows of scores) of a head.
void Softmax(Context& context, const TensorView& scores, int64_t begin, const ConstTensorView& bias,
             float scale, bool causal) {
  const int64_t keys = scores.dim(1);
  const int64_t grain = std::max<int64_t>(1, cpu::kElementsPerTask / keys);
  ParallelForRanges(context, scores.dim(0), grain, [&](int64_t first, int64_t last, int) {
    for (int64_t i = first; i < last; ++i) {
      const int64_t row = begin + i, seen = causal ? row + 1 : keys;
      HWY_DYNAMIC_DISPATCH(SoftmaxRow)
      (scores.data<float>() + i * keys,
       bias.empty() ? nullptr : bias.data<float>() + row * bias.stride(0), scale,
       static_cast<size_t>(seen), static_cast<size_t>(keys));
    }
  });
}

// One head: query [Nq, D], key and value [Nk, D], bias [Nq, Nk] or empty.
void AttendHead(Context& context, const ConstTensorView& query, const ConstTensorView& key,
                const ConstTensorView& value, const ConstTensorView& bias, float scale, bool causal,
                const TensorView& output) {
  const int64_t queries = query.dim(0), keys = key.dim(0);
  const int64_t block = RowsPerBlock(queries, keys);
  for (int64_t begin = 0; begin < queries; begin += block) {
    Workspace::Scope scope(context.workspace());
    const int64_t end = std::min(queries, begin + block);
    const TensorView scores = context.workspace().Allocate({end - begin, keys}, DType::kF32);
    Matmul(context, query.Slice(0, begin, end), key.Permute({1, 0}), scores);
    if (!context.IsPlanning()) Softmax(context, scores, begin, bias, scale, causal);
    Matmul(context, scores, value, output.Slice(0, begin, end));
  }
}

}  // namespace

namespace cpu {

namespace {

void AttendHeads(Context& context, const BiasedAttentionInputs& inputs, const TensorView& output) {
  const OnednnThreads threads(context);
  WithOnednnErrors("biased attention", [&] {
    for (int64_t b = 0; b < output.dim(0); ++b) {
      for (int64_t h = 0; h < output.dim(1); ++h) {
        const auto head = [&](const ConstTensorView& view) {
          return view.Select(0, b).Select(0, h);
        };
        const ConstTensorView bias = inputs.bias.empty()
                                         ? ConstTensorView()
                                         : inputs.bias.Select(0, inputs.bias.dim(0) == 1 ? 0 : h);
        AttendHead(context, head(inputs.query), head(inputs.key), head(inputs.value), bias,
                   inputs.scale, inputs.causal, output.Select(0, b).Select(0, h));
        if (context.IsPlanning()) return;  // the heads use the same memory one after another
      }
    }
  });
}

}  // namespace

void BiasedAttention(Context& context, const BiasedAttentionInputs& inputs, TensorView output) {
  if (output.NumElements() == 0) return;
  Workspace::Scope scope(context.workspace());
  BiasedAttentionInputs wide = inputs;
  for (ConstTensorView* view : {&wide.query, &wide.key, &wide.value, &wide.bias}) {
    *view = Widened(context, *view);
  }
  WithWideOutput(context, output, /*keeps=*/false,
                 [&](const TensorView& result) { AttendHeads(context, wide, result); });
}

}  // namespace cpu

}  // namespace tamias
#endif  // HWY_ONCE
