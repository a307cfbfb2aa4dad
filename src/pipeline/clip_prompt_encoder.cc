// Prompt -> token ids [1, 77], padded or cut -> CLIP's pooled embedding [1, d].
#include "pipeline/clip_prompt_encoder.h"

#include "pipeline/prompt_tokens.h"
#include "tamias/device_memory.h"

namespace tamias {

ClipPromptEncoder::ClipPromptEncoder(const ModelFolder& folder, const std::string& tokenizer,
                                     const std::string& encoder)
    : tokenizer_(ClipTokenizer::Load(folder.Component(tokenizer))),
      encoder_(ClipTextConfig::FromJson(folder.Config(encoder)), folder.OpenWeights(encoder)) {
  CheckVocabulary(folder, tokenizer, tokenizer_.vocab_size(), encoder,
                  encoder_.config().vocab_size);
}

Tensor ClipPromptEncoder::Encode(Context& context, const std::string& prompt) const {
  const int64_t length = encoder_.config().max_position_embeddings;
  const Tensor tokens =
      TokenTensor(TokensOf(context, length, [&] { return tokenizer_.Encode(prompt, length); }));
  Tensor pooled = HostTensor(context, {1, pooled_dim()}, DType::kF32);
  encoder_.On(context).Encode(context, tokens, {}, pooled);
  return pooled;
}

}  // namespace tamias
