// Protocol buffer wire format: a sequence of (field number << 3 | wire type) varints with values of
// type 0 (varint), 1 (8 bytes), 2 (length, bytes) or 5 (4 bytes).
// Source: https://protobuf.dev/programming-guides/encoding.
#include "io/sentencepiece_model.h"

#include <bit>
#include <cmath>
#include <optional>

#include "base/check.h"
#include "io/unicode.h"

namespace tamias {
namespace {

enum WireType : uint64_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

// Field numbers of sentencepiece_model.proto.
enum ModelField : uint64_t { kPieces = 1, kTrainerSpec = 2, kNormalizerSpec = 3 };
enum PieceField : uint64_t { kText = 1, kScore = 2, kType = 3 };
enum TrainerField : uint64_t { kModelType = 3, kByteFallback = 35, kUnknownId = 40 };
enum NormalizerField : uint64_t { kPrecompiledCharsMap = 2 };
constexpr uint64_t kUnigramModel = 1;

struct Field {
  uint64_t number = 0;
  uint64_t type = 0;
  uint64_t value = 0;      // of kVarint, kFixed32 and kFixed64
  std::string_view bytes;  // of kBytes
};

// Reads the fields of one message in order.
class MessageReader {
 public:
  MessageReader(std::string_view bytes, const std::string& source)
      : bytes_(bytes), source_(source) {}

  std::optional<Field> Next() {
    if (bytes_.empty()) return std::nullopt;
    const uint64_t key = Varint();
    Field field;
    field.number = key >> 3;
    field.type = key & 7;
    switch (field.type) {
      case kVarint:
        field.value = Varint();
        break;
      case kFixed64:
        field.value = Fixed(8);
        break;
      case kFixed32:
        field.value = Fixed(4);
        break;
      case kBytes:
        field.bytes = Take(Varint());
        break;
      default:
        FailModel("a field of unknown type");
    }
    return field;
  }

  [[noreturn]] void FailModel(std::string_view problem) const {
    Fail(ErrorCode::kInvalidFile, "{}: not a SentencePiece model: {}", source_, problem);
  }

 private:
  std::string_view Take(uint64_t size) {
    if (size > bytes_.size()) FailModel("cut off");
    const std::string_view taken = bytes_.substr(0, static_cast<size_t>(size));
    bytes_.remove_prefix(static_cast<size_t>(size));
    return taken;
  }

  uint64_t Fixed(size_t size) {
    uint64_t value = 0, shift = 0;
    for (const char c : Take(size)) {
      value |= uint64_t{static_cast<unsigned char>(c)} << shift;
      shift += 8;
    }
    return value;
  }

  uint64_t Varint() {
    uint64_t value = 0;
    for (uint64_t shift = 0; shift < 64; shift += 7) {
      const auto byte = static_cast<unsigned char>(Take(1)[0]);
      value |= uint64_t{byte & 0x7Fu} << shift;
      if ((byte & 0x80u) == 0) return value;
    }
    FailModel("a number of more than 64 bits");
  }

  std::string_view bytes_;
  const std::string& source_;
};

SentencePieceModel::Piece ReadPiece(std::string_view bytes, const std::string& source) {
  MessageReader reader(bytes, source);
  SentencePieceModel::Piece piece;
  while (const std::optional<Field> field = reader.Next()) {
    if (field->number == kText && field->type == kBytes) piece.text = field->bytes;
    if (field->number == kScore && field->type == kFixed32) {
      piece.score = std::bit_cast<float>(static_cast<uint32_t>(field->value));
    }
    if (field->number == kType && field->type == kVarint) {
      if (field->value < 1 || field->value > 6) reader.FailModel("a piece of unknown type");
      piece.type = static_cast<SentencePieceModel::PieceType>(field->value);
    }
  }
  if (!std::isfinite(piece.score)) reader.FailModel("a score that is not a finite number");
  try {
    CheckUtf8(piece.text);
  } catch (const Error&) {
    reader.FailModel("a piece that is not UTF-8");
  }
  return piece;
}

}  // namespace

SentencePieceModel SentencePieceModel::Parse(std::string_view bytes, const std::string& source) {
  MessageReader reader(bytes, source);
  SentencePieceModel model;
  while (const std::optional<Field> field = reader.Next()) {
    if (field->type != kBytes) continue;
    if (field->number == kPieces) model.pieces.push_back(ReadPiece(field->bytes, source));
    MessageReader spec(field->bytes, source);
    while (field->number == kTrainerSpec) {
      const std::optional<Field> item = spec.Next();
      if (!item) break;
      if (item->number == kModelType && item->value != kUnigramModel) {
        Fail(ErrorCode::kUnsupported, "{}: only Unigram models are supported", source);
      }
      if (item->number == kByteFallback) model.byte_fallback = item->value != 0;
      if (item->number == kUnknownId) model.unknown_id = static_cast<int64_t>(item->value);
    }
    while (field->number == kNormalizerSpec) {
      const std::optional<Field> item = spec.Next();
      if (!item) break;
      if (item->number == kPrecompiledCharsMap) model.character_map = item->bytes;
    }
  }
  if (model.pieces.empty()) reader.FailModel("no pieces");
  return model;
}

}  // namespace tamias
