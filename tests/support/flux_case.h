// A small FLUX.1 transformer of random weights with heads of 64, as GPUs want them, on both
// devices.
#pragma once

#include <fmt/format.h>

#include <cmath>
#include <string>
#include <vector>

#include "models/transformers/flux_transformer.h"
#include "tamias/device_memory.h"
#include "tests/support/device_test.h"
#include "tests/support/dry_run_case.h"
#include "tests/support/fixture.h"
#include "tests/support/weights_folder.h"

namespace tamias {

struct FluxCase {
  static constexpr int64_t kText = 13;
  static constexpr TokenGrid kGrid = {.time = 1, .height = 8, .width = 9};
  static constexpr int64_t kImage = 72;

  explicit FluxCase(DType dtype)
      : weights(WriteWeights(folder, dtype)),
        cpu_model(Config(), weights),
        gpu(PlacementOn({DeviceType::kCuda, 0}, weights.MainDType()), 1),
        gpu_model(Config(), weights.CopyToDevice(gpu)) {
    cpu_model.PrepareForSparsity(cpu);
    gpu_model.PrepareForSparsity(gpu);
    Random random(2);
    text = random.Normal({1, kText, Config().joint_attention_dim});
    pooled = random.Normal({1, Config().pooled_projection_dim});
    Tensor angles = random.Normal({kImage, Config().attention_head_dim});
    cosine = Tensor(angles.shape(), DType::kF32);
    sine = Tensor(angles.shape(), DType::kF32);
    for (int64_t i = 0; i < angles.NumElements(); ++i) {
      const float angle = angles.data<float>()[i / 2 * 2];  // the same for both of a pair
      cosine.data<float>()[i] = std::cos(angle);
      sine.data<float>()[i] = std::sin(angle);
    }
    for (const Tensor* tensor : {&text, &pooled, &cosine, &sine}) {
      on_gpu.push_back(CopyToDevice(gpu, *tensor));
    }
  }

  static FluxTransformerConfig Config() {
    FluxTransformerConfig config;
    config.in_channels = config.out_channels = 16;
    config.num_layers = 1;
    config.num_single_layers = 2;
    config.attention_head_dim = 64;
    config.num_attention_heads = 2;
    config.joint_attention_dim = 32;
    config.pooled_projection_dim = 16;
    config.guidance_embeds = true;
    config.axes_dims_rope = {16, 24, 24};
    return config;
  }

  SparseGeometry Geometry() const { return cpu_model.Geometry(1, kText, kGrid); }

  // Latents that move a little from step to step.
  static Tensor Latents(int step) {
    Random start(3), direction(4);
    Tensor latents = start.Normal({1, kImage, Config().in_channels});
    const Tensor move = direction.Normal(latents.shape(), 0.05f * static_cast<float>(step));
    for (int64_t i = 0; i < latents.NumElements(); ++i) {
      latents.data<float>()[i] += move.data<float>()[i];
    }
    return latents;
  }
  static float Timestep(int step) { return 0.9f - 0.02f * static_cast<float>(step); }

  // The prediction of a step, on the CPU and on the GPU.
  Tensor OnCpu(SparseInvocation& invocation, int step) {
    const Tensor latents = Latents(step);
    Tensor prediction(latents.shape(), DType::kF32);
    cpu_model.Forward(cpu, Inputs(latents, text, pooled, cosine, sine, step), invocation,
                      prediction);
    return prediction;
  }
  Tensor OnGpu(SparseInvocation& invocation, int step) {
    const Tensor latents = CopyToDevice(gpu, Latents(step));
    Tensor prediction = TensorOn(gpu.device(), latents.shape(), DType::kF32);
    gpu_model.Forward(gpu, Inputs(latents, on_gpu[0], on_gpu[1], on_gpu[2], on_gpu[3], step),
                      invocation, prediction);
    return CopyToHost(gpu, prediction);
  }

  static FluxTransformerInputs Inputs(const Tensor& latents, const Tensor& text,
                                      const Tensor& pooled, const Tensor& cosine,
                                      const Tensor& sine, int step) {
    return {.hidden_states = latents,
            .encoder_hidden_states = text,
            .pooled_projections = pooled,
            .timestep = Timestep(step),
            .guidance = 3.5f,
            .rotary_cos = cosine,
            .rotary_sin = sine};
  }

  // What all kinds of steps take of the GPU at most, found by a dry run.
  size_t PlannedBytes(const SparsityConfig& config) const {
    return PlannedWorkspace(gpu.placement(), gpu.threads(), [&](Context& context) {
      FluxTransformer model(Config(), weights.CopyToDevice(context));
      model.PrepareForSparsity(context);
      SparseSession session(context, config, {Geometry()});
      const Tensor latents = Latents(0);
      RunDry(context, model, session, Inputs(latents, text, pooled, cosine, sine, 0),
             latents.shape());
    });
  }

  // Random weights whose products keep the size of their inputs.
  static Weights WriteWeights(const WeightsFolder& folder, DType dtype) {
    const int64_t d = Config().model_dim(), f = 4 * d, head = Config().attention_head_dim;
    NamedTensors tensors;
    Random random(1);
    const auto norm = [&](const std::string& name) {
      Tensor weight = random.Normal({head}, 0.1f);
      for (int64_t i = 0; i < head; ++i) weight.data<float>()[i] += 1;
      tensors.emplace_back(name + ".weight", std::move(weight));
    };
    const auto linear = [&](const std::string& name, int64_t in, int64_t out) {
      const float scale = 1 / std::sqrt(static_cast<float>(in));
      tensors.emplace_back(name + ".weight", random.Normal({out, in}, scale));
      tensors.emplace_back(name + ".bias", random.Normal({out}, 0.1f));
    };
    linear("x_embedder", Config().in_channels, d);
    linear("context_embedder", Config().joint_attention_dim, d);
    for (const char* name : {"timestep_embedder", "guidance_embedder", "text_embedder"}) {
      const bool is_text = std::string(name) == "text_embedder";
      const std::string prefix = std::string("time_text_embed.") + name;
      linear(prefix + ".linear_1", is_text ? Config().pooled_projection_dim : 256, d);
      linear(prefix + ".linear_2", d, d);
    }
    const std::string block = "transformer_blocks.0.";
    for (const char* name : {"norm1", "norm1_context"}) {
      linear(block + name + ".linear", d, 6 * d);
    }
    for (const char* name : {"to_q", "to_k", "to_v", "add_q_proj", "add_k_proj", "add_v_proj",
                             "to_out.0", "to_add_out"}) {
      linear(block + "attn." + name, d, d);
    }
    for (const char* name : {"norm_q", "norm_k", "norm_added_q", "norm_added_k"}) {
      norm(block + "attn." + name);
    }
    for (const char* name : {"ff", "ff_context"}) {
      linear(block + name + ".net.0.proj", d, f);
      linear(block + name + ".net.2", f, d);
    }
    for (int64_t i = 0; i < Config().num_single_layers; ++i) {
      const std::string single = fmt::format("single_transformer_blocks.{}.", i);
      linear(single + "norm.linear", d, 3 * d);
      for (const char* name : {"to_q", "to_k", "to_v"}) linear(single + "attn." + name, d, d);
      for (const char* name : {"norm_q", "norm_k"}) norm(single + "attn." + name);
      linear(single + "proj_mlp", d, f);
      linear(single + "proj_out", d + f, d);
    }
    linear("norm_out.linear", d, 2 * d);
    linear("proj_out", d, Config().out_channels);

    return folder.Write(tensors, dtype);
  }

  WeightsFolder folder;
  Weights weights;
  Context cpu{1};
  FluxTransformer cpu_model;
  Context gpu;
  FluxTransformer gpu_model;
  Tensor text, pooled, cosine, sine;
  std::vector<Tensor> on_gpu;  // text, pooled, cosine, sine
};

}  // namespace tamias
