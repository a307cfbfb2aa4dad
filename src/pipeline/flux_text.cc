// Prompt -> CLIP's pooled embedding [1, d] and T5's states [1, max_sequence_length, d], padded as
// diffusers pads.
#include "pipeline/flux_text.h"

#include "pipeline/prompt_tokens.h"

namespace tamias {

FluxTextEncoders::FluxTextEncoders(const ModelFolder& folder)
    : clip_(folder, "tokenizer", "text_encoder"),
      t5_tokenizer_(UnigramTokenizer::Load(folder.Component("tokenizer_2"))),
      t5_(T5Config::FromJson(folder.Config("text_encoder_2")),
          folder.OpenWeights("text_encoder_2")) {
  CheckVocabulary(folder, "tokenizer_2", t5_tokenizer_.vocab_size(), "text_encoder_2",
                  t5_.config().vocab_size);
}

PromptEmbedding FluxTextEncoders::Encode(Context& context, const std::string& prompt,
                                         int max_sequence_length) const {
  const Tensor t5_tokens = TokenTensor(TokensOf(context, max_sequence_length, [&] {
    return t5_tokenizer_.Encode(prompt, max_sequence_length);
  }));
  PromptEmbedding embedding{
      HostTensor(context, {1, max_sequence_length, sequence_dim()}, DType::kF32),
      clip_.Encode(context, prompt)};
  t5_.On(context).Encode(context, t5_tokens, embedding.sequence);
  return embedding;
}

bool FluxTextEncoders::IsCut(const std::string& prompt, int max_sequence_length) const {
  return static_cast<int>(t5_tokenizer_.Tokenize(prompt).size()) > max_sequence_length;
}

}  // namespace tamias
