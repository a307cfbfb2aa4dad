// Prompt -> L token ids without padding, cut to max_length with the end token kept -> T5's states
// [1, L, d].
#include "pipeline/t5_prompt_encoder.h"

#include "pipeline/prompt_tokens.h"
#include "tamias/device_memory.h"

namespace tamias {

T5PromptEncoder::T5PromptEncoder(const ModelFolder& folder)
    : tokenizer_(UnigramTokenizer::Load(folder.Component("tokenizer"))),
      encoder_(T5Config::FromJson(folder.Config("text_encoder")),
               folder.OpenWeights("text_encoder")) {
  CheckVocabulary(folder, "tokenizer", tokenizer_.vocab_size(), "text_encoder",
                  encoder_.config().vocab_size);
}

Tensor T5PromptEncoder::Encode(Context& context, const std::string& prompt, int max_length) const {
  const Tensor tokens = TokenTensor(TokensOf(context, max_length, [&] {
    std::vector<int32_t> ids = tokenizer_.Tokenize(prompt);
    // As long as this, Encode has nothing to pad; it keeps the end token when it cuts.
    if (static_cast<int>(ids.size()) > max_length) ids = tokenizer_.Encode(prompt, max_length);
    return ids;
  }));
  Tensor sequence = HostTensor(context, {1, tokens.dim(1), sequence_dim()}, DType::kF32);
  encoder_.On(context).Encode(context, tokens, sequence);
  return sequence;
}

bool T5PromptEncoder::IsCut(const std::string& prompt, int max_length) const {
  return static_cast<int>(tokenizer_.Tokenize(prompt).size()) > max_length;
}

}  // namespace tamias
