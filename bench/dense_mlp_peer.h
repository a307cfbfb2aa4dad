// The dense peer of the column-sparse MLP: oneDNN's fc1 with bias and GELU fused, then fc2 with
// bias, fp32 or bf16, weights packed beforehand in the format that oneDNN prefers.
#pragma once

#include <omp.h>

#include <cstdint>
#include <dnnl.hpp>

namespace tamias::bench {

class DenseMlpPeer {
 public:
  // fc1 [F, d], fc2 [d, F], row-major, of `type`, which activations have, too; fc1_bias [F] and
  // fc2_bias [d] f32.
  DenseMlpPeer(dnnl::memory::data_type type, int64_t tokens, int64_t model_dim, int64_t neurons,
               void* fc1, void* fc1_bias, void* fc2, void* fc2_bias)
      : type_(type),
        up_(Make(tokens, model_dim, neurons, true)),
        down_(Make(tokens, neurons, model_dim, false)),
        hidden_(up_.dst_desc(), engine_),
        up_matmul_(up_),
        down_matmul_(down_),
        fc1_(Packed(up_.weights_desc(), neurons, model_dim, fc1)),
        fc2_(Packed(down_.weights_desc(), model_dim, neurons, fc2)),
        fc1_bias_(up_.bias_desc(), engine_, fc1_bias),
        fc2_bias_(down_.bias_desc(), engine_, fc2_bias) {}

  void Run(void* input, void* output) {
    dnnl::memory source(up_.src_desc(), engine_, input);
    dnnl::memory destination(down_.dst_desc(), engine_, output);
    up_matmul_.execute(stream_, {{DNNL_ARG_SRC, source},
                                 {DNNL_ARG_WEIGHTS, fc1_},
                                 {DNNL_ARG_BIAS, fc1_bias_},
                                 {DNNL_ARG_DST, hidden_}});
    down_matmul_.execute(stream_, {{DNNL_ARG_SRC, hidden_},
                                   {DNNL_ARG_WEIGHTS, fc2_},
                                   {DNNL_ARG_BIAS, fc2_bias_},
                                   {DNNL_ARG_DST, destination}});
    stream_.wait();
  }

 private:
  using Tag = dnnl::memory::format_tag;
  dnnl::memory::desc Desc(int64_t rows, int64_t columns, Tag tag) const {
    return {{rows, columns}, type_, tag};
  }

  dnnl::matmul::primitive_desc Make(int64_t rows, int64_t inputs, int64_t outputs, bool gelu) {
    dnnl::primitive_attr attributes;
    if (gelu) {
      dnnl::post_ops post_ops;
      post_ops.append_eltwise(1.0f, dnnl::algorithm::eltwise_gelu_tanh, 0.0f, 0.0f);
      attributes.set_post_ops(post_ops);
    }
    const dnnl::matmul::desc description(
        Desc(rows, inputs, Tag::ab), Desc(inputs, outputs, Tag::any),
        {{1, outputs}, dnnl::memory::data_type::f32, Tag::ab}, Desc(rows, outputs, Tag::ab));
    return {description, attributes, engine_};
  }

  // weight [outputs, inputs] row-major is the product's [inputs, outputs] column by column.
  dnnl::memory Packed(const dnnl::memory::desc& wanted, int64_t outputs, int64_t inputs,
                      void* weight) {
    dnnl::memory plain(Desc(inputs, outputs, Tag::ba), engine_, weight);
    dnnl::memory packed(wanted, engine_);
    dnnl::reorder(plain, packed).execute(stream_, plain, packed);
    stream_.wait();
    return packed;
  }

  dnnl::memory::data_type type_;
  dnnl::engine engine_{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream_{engine_};
  dnnl::matmul::primitive_desc up_, down_;
  dnnl::memory hidden_;
  dnnl::matmul up_matmul_, down_matmul_;
  dnnl::memory fc1_, fc2_, fc1_bias_, fc2_bias_;
};

}  // namespace tamias::bench
