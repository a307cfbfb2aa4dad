// T5's tokenizer: SentencePiece's character map, split at white space, "▁" before each word, then
// the segmentation of highest total log-probability (Kudo 2018) by dynamic programming. This is the
// pipeline that transformers 5 builds for every T5Tokenizer, whatever its tokenizer.json describes,
// but for characters that the vocabulary lacks: where it has byte fallback they become the pieces
// "<0x00>" to "<0xFF>" of their bytes, as in sentencepiece and `tokenizers` (transformers 5 makes
// them unknown).
#include <algorithm>
#include <array>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/check.h"
#include "io/added_tokens.h"
#include "io/character_map.h"
#include "io/json.h"
#include "io/model_file.h"
#include "io/sentencepiece_model.h"
#include "io/token_length.h"
#include "io/tokenizer.h"
#include "io/unicode.h"
#include "tamias/base64.h"
#include "tamias/files.h"

namespace tamias {
namespace {

constexpr std::string_view kWordStart = "▁";  // U+2581
constexpr double kUnknownPenalty = 10;        // below the least likely piece
constexpr size_t kMaxModelBytes = size_t{64} << 20;

struct Piece {
  std::string text;
  double score;
  int32_t id;
};

using BytePieces = std::array<std::optional<int32_t>, 256>;  // ids; one may be missing

// The byte that a piece like "<0x4A>" stands for.
std::optional<uint8_t> ByteOf(std::string_view piece) {
  if (piece.size() != 6 || !piece.starts_with("<0x") || piece[5] != '>') return std::nullopt;
  int value = 0;
  for (const char digit : piece.substr(3, 2)) {
    const size_t hex = std::string_view("0123456789ABCDEF").find(digit);
    if (hex == std::string_view::npos) return std::nullopt;
    value = 16 * value + static_cast<int>(hex);
  }
  return static_cast<uint8_t>(value);
}

// The pieces of a vocabulary and the best segmentation of a word into them.
class UnigramModel {
 public:
  // `pieces` in the order of their ids; of equal texts the last one counts.
  // byte_pieces: of a vocabulary with byte fallback.
  UnigramModel(std::vector<Piece> pieces, int32_t unknown_id, std::optional<BytePieces> byte_pieces)
      : pieces_(std::move(pieces)), unknown_id_(unknown_id), byte_pieces_(byte_pieces) {
    unknown_score_ = std::ranges::min_element(pieces_, {}, &Piece::score)->score - kUnknownPenalty;
    std::ranges::stable_sort(pieces_, [](const Piece& a, const Piece& b) {
      return a.text != b.text ? a.text < b.text : a.id > b.id;
    });
    const auto has_same_text = [](const Piece& a, const Piece& b) { return a.text == b.text; };
    pieces_.erase(std::unique(pieces_.begin(), pieces_.end(), has_same_text), pieces_.end());
  }

  std::optional<int32_t> Find(std::string_view text) const {
    const auto it = std::ranges::lower_bound(pieces_, text, {}, &Piece::text);
    if (it == pieces_.end() || it->text != text) return std::nullopt;
    return it->id;
  }

  // Appends the ids of one word; unknown characters in a row become one unknown id, or their bytes.
  void Encode(std::string_view word, std::vector<int32_t>& ids) const {
    struct Node {  // the best path that ends at a byte
      double score = 0;
      size_t begin = kNone;  // of its last piece
      int32_t id = 0;
    };
    std::vector<Node> best(word.size() + 1);
    const auto offer = [&](size_t begin, size_t end, double score, int32_t id) {
      const double total = best[begin].score + score;
      if (best[end].begin == kNone || total > best[end].score) best[end] = {total, begin, id};
    };
    for (size_t begin = 0; begin < word.size();) {
      const size_t character_end = begin + CharacterAt(word, begin).size;
      bool has_single_character = false;
      ForEachPrefix(word.substr(begin), [&](const Piece& piece) {
        const size_t end = begin + piece.text.size();
        offer(begin, end, piece.score, piece.id);
        has_single_character = has_single_character || end == character_end;
      });
      if (!has_single_character) offer(begin, character_end, unknown_score_, unknown_id_);
      begin = character_end;
    }
    const size_t first = ids.size();
    for (size_t end = word.size(); end > 0; end = best[end].begin) {
      if (best[end].id != unknown_id_) {
        ids.push_back(best[end].id);
        continue;
      }
      size_t begin = best[end].begin;
      while (begin > 0 && best[begin].id == unknown_id_) begin = best[begin].begin;
      AppendUnknown(word.substr(begin, end - begin), ids);
      best[end].begin = begin;
    }
    std::reverse(ids.begin() + static_cast<std::ptrdiff_t>(first), ids.end());
  }

 private:
  static constexpr size_t kNone = std::string_view::npos;

  // The ids of characters that no piece has, last byte first.
  void AppendUnknown(std::string_view characters, std::vector<int32_t>& ids) const {
    const auto piece_of = [&](char c) { return (*byte_pieces_)[static_cast<unsigned char>(c)]; };
    if (!byte_pieces_ || !std::ranges::all_of(characters, [&](char c) { return !!piece_of(c); })) {
      ids.push_back(unknown_id_);
      return;
    }
    for (auto c = characters.rbegin(); c != characters.rend(); ++c) ids.push_back(*piece_of(*c));
  }

  // Calls on_piece for every piece that `text` begins with, shortest first: the range of pieces
  // that share a prefix with the text narrows byte by byte.
  template <typename OnPiece>
  void ForEachPrefix(std::string_view text, const OnPiece& on_piece) const {
    auto begin = pieces_.begin(), end = pieces_.end();
    for (size_t depth = 0; depth < text.size(); ++depth) {
      // A piece that ends here sorts before those that go on.
      if (begin != end && begin->text.size() == depth) ++begin;
      const auto byte = static_cast<unsigned char>(text[depth]);
      const auto byte_of = [depth](const Piece& piece) {
        return static_cast<unsigned char>(piece.text[depth]);
      };
      begin = std::partition_point(begin, end, [&](const Piece& p) { return byte_of(p) < byte; });
      end = std::partition_point(begin, end, [&](const Piece& p) { return byte_of(p) == byte; });
      if (begin == end) return;
      if (begin->text.size() == depth + 1) on_piece(*begin);
    }
  }

  std::vector<Piece> pieces_;  // sorted by text
  int32_t unknown_id_;
  std::optional<BytePieces> byte_pieces_;
  double unknown_score_;
};

BytePieces FindBytePieces(const std::vector<Piece>& pieces) {
  BytePieces found;
  for (const Piece& piece : pieces) {
    if (const std::optional<uint8_t> byte = ByteOf(piece.text)) found[*byte] = piece.id;
  }
  return found;
}

// Calls on_word for each word, with "▁" in front; "▁" within a word begins a new one.
template <typename OnWord>
void SplitWords(std::string_view text, const OnWord& on_word) {
  for (size_t i = 0; i < text.size();) {
    const size_t begin = i;
    while (i < text.size()) {
      const Utf8Character character = CharacterAt(text, i);
      if (IsWhitespace(character.code_point)) break;
      i += character.size;
    }
    if (i == begin) {
      i += CharacterAt(text, i).size;
      continue;
    }
    std::string word(text.substr(begin, i - begin));
    if (!word.starts_with(kWordStart)) word.insert(0, kWordStart);
    for (size_t at = 0; at < word.size();) {
      const size_t next = std::min(word.find(kWordStart, at + kWordStart.size()), word.size());
      on_word(std::string_view(word).substr(at, next - at));
      at = next;
    }
  }
}

std::vector<Piece> ReadPieces(const JsonObject& model) {
  const auto it = model.raw().find("vocab");
  if (it == model.raw().end() || !it->is_array()) model.FailField("vocab", "expected an array");
  std::vector<Piece> pieces;
  for (const nlohmann::json& item : *it) {
    if (!item.is_array() || item.size() != 2 || !item[0].is_string() || !item[1].is_number() ||
        !std::isfinite(item[1].get<double>())) {
      model.FailField(fmt::format("vocab[{}]", pieces.size()), "expected [piece, score]");
    }
    pieces.push_back(
        {item[0].get<std::string>(), item[1].get<double>(), static_cast<int32_t>(pieces.size())});
  }
  if (pieces.empty()) model.FailField("vocab", "is empty");
  return pieces;
}

// The precompiled character map among the normalizers of tokenizer.json, or none.
CharacterMap ReadCharacterMap(const JsonObject& file) {
  if (!file.Has("normalizer")) return {};
  const JsonObject normalizer = file.Object("normalizer");
  std::vector<JsonObject> normalizers = {normalizer};
  if (normalizer.StringOr("type", "") == "Sequence") {
    normalizers = normalizer.ObjectArray("normalizers");
  }
  for (const JsonObject& item : normalizers) {
    if (item.StringOr("type", "") != "Precompiled") continue;
    const std::string encoded = item.StringOr("precompiled_charsmap", "");
    if (encoded.empty()) continue;
    const std::optional<std::string> bytes = DecodeBase64(encoded);
    if (!bytes) item.FailField("precompiled_charsmap", "not base64");
    return CharacterMap(*bytes, file.source());
  }
  return {};
}

}  // namespace

struct UnigramTokenizer::Model {
  Model(UnigramModel model, int32_t num_pieces, CharacterMap map, const TokenizerConfig& config)
      : vocab_size(num_pieces), unigram(std::move(model)), character_map(std::move(map)) {
    for (const auto& [id, token] : config.added) AddToken(token);
    for (const auto& [name, token] : config.named_tokens) AddToken(token);
    for (const AddedToken& token : config.extra) AddToken(token);
    end_id = NamedToken(config, "eos_token", "</s>");
    NamedToken(config, "unk_token", "<unk>");
    pad_id = NamedToken(config, "pad_token", "<pad>");
    for (int64_t i = 0; i < config.extra_ids; ++i) {
      AddToken({.content = fmt::format("<extra_id_{}>", i)});
    }
    vocab_size = std::max(vocab_size, added.max_id() + 1);
  }

  void AddToken(const AddedToken& token) {
    added.Add(token, unigram.Find(token.content), vocab_size, Normalizer());
  }

  int32_t NamedToken(const TokenizerConfig& config, std::string_view name,
                     std::string_view fallback) {
    const std::string content = config.Content(name, std::string(fallback));
    AddToken({.content = content});
    return *added.Find(content);
  }

  AddedTokens::Normalizer Normalizer() const {
    return [this](std::string_view text) { return character_map.Apply(text); };
  }

  static std::unique_ptr<const Model> FromJson(const JsonObject& file,
                                               const TokenizerConfig& config) {
    const JsonObject model = file.Object("model");
    if (const std::string type = model.StringOr("type", "Unigram"); type != "Unigram") {
      model.FailField("type", fmt::format("expected \"Unigram\", found \"{}\"", type));
    }
    std::vector<Piece> pieces = ReadPieces(model);
    const int64_t max_id = static_cast<int64_t>(pieces.size()) - 1;
    const auto unknown_id = static_cast<int32_t>(model.Int("unk_id", {.min = 0, .max = max_id}));
    std::optional<BytePieces> byte_pieces;
    if (model.BoolOr("byte_fallback", false)) byte_pieces = FindBytePieces(pieces);
    const auto num_pieces = static_cast<int32_t>(pieces.size());
    return std::make_unique<Model>(UnigramModel(std::move(pieces), unknown_id, byte_pieces),
                                   num_pieces, ReadCharacterMap(file), config);
  }

  static std::unique_ptr<const Model> FromSentencePiece(std::string_view bytes,
                                                        const std::string& source,
                                                        TokenizerConfig config) {
    const SentencePieceModel model = SentencePieceModel::Parse(bytes, source);
    std::vector<Piece> pieces;
    const auto append = [&](const std::string& text, double score) {
      pieces.push_back({text, score, static_cast<int32_t>(pieces.size())});
    };
    using PieceType = SentencePieceModel::PieceType;
    BytePieces byte_pieces;
    for (const auto& piece : model.pieces) {
      const std::optional<uint8_t> byte = ByteOf(piece.text);
      if (piece.type == PieceType::kByte && byte) {
        byte_pieces[*byte] = static_cast<int32_t>(pieces.size());
      }
      append(piece.text, static_cast<double>(piece.score));
      if (piece.type == PieceType::kControl || piece.type == PieceType::kUserDefined) {
        config.extra.push_back({.content = piece.text});
      }
    }
    if (model.unknown_id < 0 || model.unknown_id >= static_cast<int64_t>(pieces.size())) {
      Fail(ErrorCode::kInvalidFile, "{}: unk_id {} is outside of the {} pieces", source,
           model.unknown_id, pieces.size());
    }
    for (int64_t i = config.extra_ids - 1; i >= 0; --i) append(fmt::format("<extra_id_{}>", i), 0);
    CharacterMap map;
    if (!model.character_map.empty()) map = CharacterMap(model.character_map, source);
    const auto num_pieces = static_cast<int32_t>(pieces.size());
    if (model.byte_fallback) {
      // Bytes are for what no piece has: text does not spell them.
      std::erase_if(pieces, [&](const Piece& piece) {
        return model.pieces.size() > static_cast<size_t>(piece.id) &&
               model.pieces[static_cast<size_t>(piece.id)].type == PieceType::kByte;
      });
      if (pieces.empty()) Fail(ErrorCode::kInvalidFile, "{}: only pieces of bytes", source);
    }
    UnigramModel unigram(std::move(pieces), static_cast<int32_t>(model.unknown_id),
                         model.byte_fallback ? std::optional(byte_pieces) : std::nullopt);
    return std::make_unique<Model>(std::move(unigram), num_pieces, std::move(map), config);
  }

  int32_t vocab_size;
  UnigramModel unigram;
  CharacterMap character_map;
  AddedTokens added;
  int32_t end_id = 0, pad_id = 0;
};

UnigramTokenizer::UnigramTokenizer(std::unique_ptr<const Model> model) : model_(std::move(model)) {}
UnigramTokenizer::UnigramTokenizer(UnigramTokenizer&&) noexcept = default;
UnigramTokenizer& UnigramTokenizer::operator=(UnigramTokenizer&&) noexcept = default;
UnigramTokenizer::~UnigramTokenizer() = default;

int32_t UnigramTokenizer::end_id() const { return model_->end_id; }
int32_t UnigramTokenizer::pad_id() const { return model_->pad_id; }
int32_t UnigramTokenizer::vocab_size() const { return model_->vocab_size; }

UnigramTokenizer UnigramTokenizer::Load(const std::filesystem::path& folder) {
  if (const auto path = folder / "tokenizer.json"; HasEntry(path)) {
    const JsonObject file = JsonObject::Load(path);
    return UnigramTokenizer(Model::FromJson(file, TokenizerConfig::Load(folder, &file)));
  }
  const auto path = folder / "spiece.model";
  if (!HasEntry(path)) {
    Fail(ErrorCode::kNotFound, "{}: neither tokenizer.json nor spiece.model", folder.string());
  }
  const std::string bytes = ReadFile(path, kMaxModelBytes);
  RefuseForeignContent(path, bytes);
  return UnigramTokenizer(
      Model::FromSentencePiece(bytes, path.string(), TokenizerConfig::Load(folder, nullptr)));
}

UnigramTokenizer UnigramTokenizer::Parse(std::string_view tokenizer_json,
                                         const std::string& source) {
  const JsonObject file = JsonObject::Parse(tokenizer_json, source);
  return UnigramTokenizer(Model::FromJson(file, TokenizerConfig::FromJson(file)));
}

UnigramTokenizer UnigramTokenizer::ParseSentencePiece(std::string_view model,
                                                      const std::string& source) {
  return UnigramTokenizer(Model::FromSentencePiece(model, source, {}));
}

std::vector<int32_t> UnigramTokenizer::Tokenize(std::string_view text) const {
  CheckUtf8(text);
  std::vector<int32_t> ids;
  model_->added.Split(
      text, model_->Normalizer(), [&](int32_t id) { ids.push_back(id); },
      [&](std::string_view piece) {
        SplitWords(piece, [&](std::string_view word) { model_->unigram.Encode(word, ids); });
      });
  ids.push_back(model_->end_id);
  return ids;
}

std::vector<int32_t> UnigramTokenizer::Encode(std::string_view text, int64_t max_length) const {
  return FitLength(Tokenize(text), max_length, /*min_length=*/1, model_->end_id, model_->pad_id);
}

}  // namespace tamias
