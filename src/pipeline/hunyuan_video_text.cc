// instructions + prompt -> Llama's states two layers before the last, without the first 95 tokens:
// [1, L, d]; prompt -> CLIP's pooled embedding [1, d].
#include "pipeline/hunyuan_video_text.h"

#include <utility>

#include "base/check.h"
#include "pipeline/prompt_tokens.h"
#include "tamias/device_memory.h"

namespace tamias {
namespace {

// The instructions the model was trained with, to the letter, and what diffusers drops of their
// states: with Llama 3's tokenizer everything before the prompt.
constexpr const char* kInstructions =
    "<|start_header_id|>system<|end_header_id|>\n\nDescribe the video by detailing the following "
    "aspects: 1. The main content and theme of the video.2. The color, shape, size, texture, "
    "quantity, text, and spatial relationships of the objects.3. Actions, events, behaviors "
    "temporal relationships, physical movement changes of the objects.4. background environment, "
    "light, style and atmosphere.5. camera angles, movements, and transitions used in the "
    "video:<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n";
constexpr const char* kEndOfTurn = "<|eot_id|>";
constexpr int64_t kInstructionTokens = 95;
constexpr int64_t kLayersToSkip = 2;

std::string Instruct(const std::string& prompt) { return kInstructions + prompt + kEndOfTurn; }

}  // namespace

HunyuanVideoTextEncoders::HunyuanVideoTextEncoders(const ModelFolder& folder)
    : llama_tokenizer_(ByteLevelTokenizer::Load(folder.Component("tokenizer"))),
      llama_(LlamaTextConfig::FromJson(folder.Config("text_encoder")),
             folder.OpenWeights("text_encoder")),
      clip_(folder, "tokenizer_2", "text_encoder_2") {
  CheckVocabulary(folder, "tokenizer", llama_tokenizer_.vocab_size(), "text_encoder",
                  llama_.config().vocab_size);
  if (llama_.config().num_hidden_layers < kLayersToSkip) {
    Fail(ErrorCode::kInvalidFile,
         "{}: text_encoder: field 'num_hidden_layers' is {}, but HunyuanVideo skips the last {}",
         folder.path().string(), llama_.config().num_hidden_layers, kLayersToSkip);
  }
  const auto shortest = static_cast<int64_t>(llama_tokenizer_.Tokenize(Instruct("")).size());
  if (shortest <= kInstructionTokens) {
    Fail(ErrorCode::kInvalidFile,
         "{}: tokenizer: HunyuanVideo's instructions take {} tokens, expected more than the {} "
         "that are dropped",
         folder.path().string(), shortest, kInstructionTokens);
  }
}

PromptEmbedding HunyuanVideoTextEncoders::Encode(Context& context, const std::string& prompt,
                                                 int max_sequence_length) const {
  const int64_t most = kInstructionTokens + max_sequence_length;
  const std::vector<int32_t> ids =
      TokensOf(context, most, [&] { return llama_tokenizer_.Encode(Instruct(prompt), most); });
  const Tensor states = llama_.On(context).Encode(context, ids, kLayersToSkip);
  const ConstTensorView kept = states.view().Slice(1, kInstructionTokens, states.dim(1));
  Tensor sequence = HostTensor(context, kept.shape(), DType::kF32);
  if (!context.IsPlanning()) CopyOnHost(kept, sequence);
  return {std::move(sequence), clip_.Encode(context, prompt)};
}

bool HunyuanVideoTextEncoders::IsCut(const std::string& prompt, int max_sequence_length) const {
  const auto length = static_cast<int64_t>(llama_tokenizer_.Tokenize(Instruct(prompt)).size());
  return length > kInstructionTokens + max_sequence_length;
}

}  // namespace tamias
