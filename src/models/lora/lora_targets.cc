// One table serves all families: an entry counts where the model has the layers on its right.
// Sources: the conversion scripts of diffusers for each family, and the authors' own code.
#include "models/lora/lora_targets.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace tamias {
namespace {

struct Renaming {
  std::string_view original;  // "{}" is the number of a block
  std::array<std::string_view, 4>
      layers;                 // in diffusers, one after the other in the original's rows
  bool swaps_halves = false;  // diffusers has the second half of the rows first
};

constexpr Renaming kRenamings[] = {
    // FLUX
    {"double_blocks.{}.img_attn.qkv",
     {"transformer_blocks.{}.attn.to_q", "transformer_blocks.{}.attn.to_k",
      "transformer_blocks.{}.attn.to_v"}},
    {"double_blocks.{}.img_attn.proj", {"transformer_blocks.{}.attn.to_out.0"}},
    {"double_blocks.{}.txt_attn.qkv",
     {"transformer_blocks.{}.attn.add_q_proj", "transformer_blocks.{}.attn.add_k_proj",
      "transformer_blocks.{}.attn.add_v_proj"}},
    {"double_blocks.{}.txt_attn.proj", {"transformer_blocks.{}.attn.to_add_out"}},
    {"double_blocks.{}.img_mlp.0", {"transformer_blocks.{}.ff.net.0.proj"}},
    {"double_blocks.{}.img_mlp.2", {"transformer_blocks.{}.ff.net.2"}},
    {"double_blocks.{}.txt_mlp.0", {"transformer_blocks.{}.ff_context.net.0.proj"}},
    {"double_blocks.{}.txt_mlp.2", {"transformer_blocks.{}.ff_context.net.2"}},
    {"double_blocks.{}.img_mod.lin", {"transformer_blocks.{}.norm1.linear"}},
    {"double_blocks.{}.txt_mod.lin", {"transformer_blocks.{}.norm1_context.linear"}},
    {"single_blocks.{}.linear1",
     {"single_transformer_blocks.{}.attn.to_q", "single_transformer_blocks.{}.attn.to_k",
      "single_transformer_blocks.{}.attn.to_v", "single_transformer_blocks.{}.proj_mlp"}},
    {"single_blocks.{}.linear2", {"single_transformer_blocks.{}.proj_out"}},
    {"single_blocks.{}.modulation.lin", {"single_transformer_blocks.{}.norm.linear"}},
    {"img_in", {"x_embedder"}},
    {"txt_in", {"context_embedder"}},
    {"time_in.in_layer", {"time_text_embed.timestep_embedder.linear_1"}},
    {"time_in.out_layer", {"time_text_embed.timestep_embedder.linear_2"}},
    {"vector_in.in_layer", {"time_text_embed.text_embedder.linear_1"}},
    {"vector_in.out_layer", {"time_text_embed.text_embedder.linear_2"}},
    {"guidance_in.in_layer", {"time_text_embed.guidance_embedder.linear_1"}},
    {"guidance_in.out_layer", {"time_text_embed.guidance_embedder.linear_2"}},
    {"final_layer.linear", {"proj_out"}},
    {"final_layer.adaLN_modulation.1", {"norm_out.linear"}, /*swaps_halves=*/true},
    // HunyuanVideo, where it differs
    {"time_in.mlp.0", {"time_text_embed.timestep_embedder.linear_1"}},
    {"time_in.mlp.2", {"time_text_embed.timestep_embedder.linear_2"}},
    {"guidance_in.mlp.0", {"time_text_embed.guidance_embedder.linear_1"}},
    {"guidance_in.mlp.2", {"time_text_embed.guidance_embedder.linear_2"}},
    {"txt_in.input_embedder", {"context_embedder.proj_in"}},
    {"txt_in.t_embedder.mlp.0", {"context_embedder.time_text_embed.timestep_embedder.linear_1"}},
    {"txt_in.t_embedder.mlp.2", {"context_embedder.time_text_embed.timestep_embedder.linear_2"}},
    {"txt_in.c_embedder.linear_1", {"context_embedder.time_text_embed.text_embedder.linear_1"}},
    {"txt_in.c_embedder.linear_2", {"context_embedder.time_text_embed.text_embedder.linear_2"}},
    {"txt_in.individual_token_refiner.blocks.{}.self_attn_qkv",
     {"context_embedder.token_refiner.refiner_blocks.{}.attn.to_q",
      "context_embedder.token_refiner.refiner_blocks.{}.attn.to_k",
      "context_embedder.token_refiner.refiner_blocks.{}.attn.to_v"}},
    {"txt_in.individual_token_refiner.blocks.{}.self_attn_proj",
     {"context_embedder.token_refiner.refiner_blocks.{}.attn.to_out.0"}},
    {"txt_in.individual_token_refiner.blocks.{}.mlp.fc1",
     {"context_embedder.token_refiner.refiner_blocks.{}.ff.net.0.proj"}},
    {"txt_in.individual_token_refiner.blocks.{}.mlp.fc2",
     {"context_embedder.token_refiner.refiner_blocks.{}.ff.net.2"}},
    {"txt_in.individual_token_refiner.blocks.{}.adaLN_modulation.1",
     {"context_embedder.token_refiner.refiner_blocks.{}.norm_out.linear"}},
    {"double_blocks.{}.img_attn_qkv",
     {"transformer_blocks.{}.attn.to_q", "transformer_blocks.{}.attn.to_k",
      "transformer_blocks.{}.attn.to_v"}},
    {"double_blocks.{}.img_attn_proj", {"transformer_blocks.{}.attn.to_out.0"}},
    {"double_blocks.{}.txt_attn_qkv",
     {"transformer_blocks.{}.attn.add_q_proj", "transformer_blocks.{}.attn.add_k_proj",
      "transformer_blocks.{}.attn.add_v_proj"}},
    {"double_blocks.{}.txt_attn_proj", {"transformer_blocks.{}.attn.to_add_out"}},
    {"double_blocks.{}.img_mlp.fc1", {"transformer_blocks.{}.ff.net.0.proj"}},
    {"double_blocks.{}.img_mlp.fc2", {"transformer_blocks.{}.ff.net.2"}},
    {"double_blocks.{}.txt_mlp.fc1", {"transformer_blocks.{}.ff_context.net.0.proj"}},
    {"double_blocks.{}.txt_mlp.fc2", {"transformer_blocks.{}.ff_context.net.2"}},
    {"double_blocks.{}.img_mod.linear", {"transformer_blocks.{}.norm1.linear"}},
    {"double_blocks.{}.txt_mod.linear", {"transformer_blocks.{}.norm1_context.linear"}},
    {"single_blocks.{}.modulation.linear", {"single_transformer_blocks.{}.norm.linear"}},
    // Wan
    {"blocks.{}.self_attn.q", {"blocks.{}.attn1.to_q"}},
    {"blocks.{}.self_attn.k", {"blocks.{}.attn1.to_k"}},
    {"blocks.{}.self_attn.v", {"blocks.{}.attn1.to_v"}},
    {"blocks.{}.self_attn.o", {"blocks.{}.attn1.to_out.0"}},
    {"blocks.{}.cross_attn.q", {"blocks.{}.attn2.to_q"}},
    {"blocks.{}.cross_attn.k", {"blocks.{}.attn2.to_k"}},
    {"blocks.{}.cross_attn.v", {"blocks.{}.attn2.to_v"}},
    {"blocks.{}.cross_attn.o", {"blocks.{}.attn2.to_out.0"}},
    {"blocks.{}.cross_attn.k_img", {"blocks.{}.attn2.add_k_proj"}},
    {"blocks.{}.cross_attn.v_img", {"blocks.{}.attn2.add_v_proj"}},
    {"blocks.{}.ffn.0", {"blocks.{}.ffn.net.0.proj"}},
    {"blocks.{}.ffn.2", {"blocks.{}.ffn.net.2"}},
    {"text_embedding.0", {"condition_embedder.text_embedder.linear_1"}},
    {"text_embedding.2", {"condition_embedder.text_embedder.linear_2"}},
    {"time_embedding.0", {"condition_embedder.time_embedder.linear_1"}},
    {"time_embedding.2", {"condition_embedder.time_embedder.linear_2"}},
    {"time_projection.1", {"condition_embedder.time_proj"}},
    {"img_emb.proj.1", {"condition_embedder.image_embedder.ff.net.0.proj"}},
    {"img_emb.proj.3", {"condition_embedder.image_embedder.ff.net.2"}},
    {"head.head", {"proj_out"}},
};

std::string Numbered(std::string_view name, int block) {
  return fmt::format(fmt::runtime(name), block);
}

// Empty where the model lacks one of them.
std::vector<LoraTarget> TargetsOf(const Weights& weights, const Renaming& renaming, int block) {
  std::vector<LoraTarget> targets;
  for (const std::string_view layer : renaming.layers) {
    if (layer.empty()) break;
    const std::string weight = Numbered(layer, block) + ".weight";
    if (!weights.Has(weight) || weights.Dims(weight).size() != 2) return {};
    targets.push_back({weight, 0, weights.Dims(weight).at(0)});
  }
  if (renaming.swaps_halves) {
    const LoraTarget whole = targets.front();
    const int64_t half = whole.rows / 2;
    targets = {{whole.weight, half, whole.rows - half}, {whole.weight, 0, half}};
  }
  return targets;
}

// Of matrices that are looked up and not multiplied with.
constexpr std::string_view kEmbeddings[] = {"_embedding", "embed_tokens", "shared",
                                            "relative_attention_bias"};

// CLIP's text encoder is called text_model in files of older versions of transformers.
std::string OtherNameOf(const std::string& layer) {
  constexpr std::string_view kTextModel = "text_model.";
  if (layer.starts_with(kTextModel)) return layer.substr(kTextModel.size());
  return layer.starts_with("encoder.layers.") ? std::string(kTextModel) + layer : layer;
}

}  // namespace

LoraTargets::LoraTargets(const Weights& weights) {
  constexpr std::string_view kWeight = ".weight";
  for (const std::string& name : weights.names()) {
    if (!name.ends_with(kWeight)) continue;
    const std::string layer = name.substr(0, name.size() - kWeight.size());
    const std::vector<int64_t> dims = weights.Dims(name);
    const bool is_embedding = std::ranges::any_of(
        kEmbeddings, [&](std::string_view end) { return layer.ends_with(end); });
    if (dims.size() != 2 || is_embedding) continue;
    Add(layer, {{name, 0, dims[0]}});
    Add(OtherNameOf(layer), {{name, 0, dims[0]}});
  }
  for (const Renaming& renaming : kRenamings) {
    const bool is_numbered = renaming.original.find("{}") != renaming.original.npos;
    for (int block = 0; block == 0 || is_numbered; ++block) {
      std::vector<LoraTarget> targets = TargetsOf(weights, renaming, block);
      if (targets.empty()) break;
      Add(Numbered(renaming.original, block), std::move(targets));
    }
  }
}

void LoraTargets::Add(const std::string& layer, std::vector<LoraTarget> targets) {
  std::string joined = layer;
  std::ranges::replace(joined, '.', '_');
  joined_.emplace(joined, targets);
  dotted_.emplace(layer, std::move(targets));
}

const std::vector<LoraTarget>* LoraTargets::Find(std::string_view layer, bool is_joined) const {
  const auto& names = is_joined ? joined_ : dotted_;
  const auto found = names.find(layer);
  return found == names.end() ? nullptr : &found->second;
}

}  // namespace tamias
