// One convolution by oneDNN: see the header.
#include "ops/cpu/onednn_conv2d.h"

#include "ops/cpu/onednn.h"

namespace tamias::cpu {
namespace {

using dnnl::memory;

dnnl::convolution_forward::primitive_desc MakeDesc(int64_t height, int64_t width,
                                                   const Shape& weight, const ConvTypes& types,
                                                   const Padding& padding, bool has_bias,
                                                   bool accumulate) {
  CheckRoomForCode();
  const auto operand = OnednnType(types.operands);
  const int64_t outputs = weight[0], inputs = weight[1];
  const memory::desc source({1, inputs, height, width}, operand, memory::format_tag::nhwc);
  const memory::desc weights({outputs, inputs, weight[2], weight[3]}, operand,
                             memory::format_tag::any);
  const memory::desc bias =
      has_bias ? memory::desc({outputs}, memory::data_type::f32, memory::format_tag::x)
               : memory::desc();
  const memory::desc destination({1, outputs, height + padding.top + padding.bottom - weight[2] + 1,
                                  width + padding.left + padding.right - weight[3] + 1},
                                 OnednnType(types.output), memory::format_tag::nhwc);
  const dnnl::convolution_forward::desc desc(
      dnnl::prop_kind::forward_inference, dnnl::algorithm::convolution_direct, source, weights,
      bias, destination, {1, 1}, {padding.top, padding.left}, {padding.bottom, padding.right});
  return {desc, OnednnAttributes(Activation::kNone, accumulate), OnednnEngine()};
}

}  // namespace

OnednnConv2d::OnednnConv2d(int64_t height, int64_t width, const Shape& weight,
                           const ConvTypes& types, const Padding& padding, bool has_bias,
                           bool accumulate)
    : desc_(MakeDesc(height, width, weight, types, padding, has_bias, accumulate)),
      primitive_(desc_) {}

void OnednnConv2d::PackWeights(Context& context, const ConstTensorView& weight,
                               void* packed) const {
  CheckRoomForCode();
  const auto dims_of = [](const Shape& shape) {
    return memory::dims(shape.dims().begin(), shape.dims().end());
  };
  const dnnl::engine& engine = OnednnEngine();
  const memory::desc plain_desc = FloatDesc(dims_of(weight.shape()), dims_of(weight.strides()));
  const dnnl::reorder::primitive_desc reorder(engine, plain_desc, engine, desc_.weights_desc(),
                                              OnednnAttributes(Activation::kNone, false));
  if (context.IsPlanning()) return PlanOnednn(context, reorder.scratchpad_desc());
  const memory plain(plain_desc, engine, const_cast<float*>(weight.data<float>()));
  const memory blocked(desc_.weights_desc(), engine, packed);
  ExecuteOnednn(context, dnnl::reorder(reorder), reorder.scratchpad_desc(),
                {{DNNL_ARG_FROM, plain}, {DNNL_ARG_TO, blocked}});
}

void OnednnConv2d::Run(Context& context, const void* input, void* packed, const float* bias,
                       void* output) const {
  if (context.IsPlanning()) return PlanOnednn(context, desc_.scratchpad_desc());
  const dnnl::engine& engine = OnednnEngine();
  std::unordered_map<int, memory> arguments = {
      {DNNL_ARG_SRC, memory(desc_.src_desc(), engine, const_cast<void*>(input))},
      {DNNL_ARG_WEIGHTS, memory(desc_.weights_desc(), engine, packed)},
      {DNNL_ARG_DST, memory(desc_.dst_desc(), engine, output)}};
  if (bias != nullptr) {
    arguments.insert_or_assign(DNNL_ARG_BIAS,
                               memory(desc_.bias_desc(), engine, const_cast<float*>(bias)));
  }
  ExecuteOnednn(context, primitive_, desc_.scratchpad_desc(), std::move(arguments));
}

}  // namespace tamias::cpu
