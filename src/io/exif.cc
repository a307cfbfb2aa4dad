// EXIF through libexif.
#include "io/exif.h"

#include <libexif/exif-data.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "base/check.h"
#include "io/unicode.h"

namespace tamias {
namespace {

constexpr std::string_view kHeader{"Exif\0\0", 6};
constexpr size_t kMaxBytes = 60000;

struct Free {
  void operator()(ExifData* data) const { exif_data_unref(data); }
  void operator()(ExifEntry* entry) const { exif_entry_unref(entry); }
  void operator()(ExifMem* memory) const { exif_mem_unref(memory); }
  void operator()(unsigned char* bytes) const { std::free(bytes); }
};
template <typename T>
using Owned = std::unique_ptr<T, Free>;

template <typename T>
T* CheckPointer(T* pointer) {
  if (pointer == nullptr) Fail(ErrorCode::kOutOfMemory, "exif: no memory");
  return pointer;
}

void AddEntry(ExifData& data, ExifIfd directory, ExifTag tag, ExifFormat format,
              std::string_view value) {
  const Owned<ExifMem> memory(CheckPointer(exif_mem_new_default()));
  const Owned<ExifEntry> entry(CheckPointer(exif_entry_new_mem(memory.get())));
  const auto size = static_cast<unsigned int>(value.size());
  entry->data =
      static_cast<unsigned char*>(CheckPointer(exif_mem_alloc(memory.get(), std::max(size, 1U))));
  std::memcpy(entry->data, value.data(), value.size());
  entry->tag = tag;
  entry->format = format;
  entry->components = size;
  entry->size = size;
  exif_content_add_entry(data.ifd[directory], entry.get());
}

// UserComment: eight bytes that name the encoding, then the text; UTF-16 has the byte order of the
// file, big-endian here.
std::string UserComment(const std::string& text) {
  if (std::ranges::all_of(text, [](char c) { return static_cast<unsigned char>(c) < 0x80; })) {
    return std::string("ASCII\0\0\0", 8) + text;
  }
  std::string comment("UNICODE\0", 8);
  const auto append = [&](int32_t unit) {
    comment += static_cast<char>(unit >> 8);
    comment += static_cast<char>(unit & 0xFF);
  };
  for (size_t at = 0; at < text.size();) {
    const Utf8Character character = CharacterAt(text, at);
    at = character.begin + character.size;
    const int32_t above = character.code_point - 0x10000;
    if (above < 0) {
      append(character.code_point);
    } else {  // a surrogate pair
      append(0xD800 + (above >> 10));
      append(0xDC00 + (above & 0x3FF));
    }
  }
  return comment;
}

}  // namespace

std::string EncodeExif(const std::map<std::string, std::string>& text) {
  const Owned<ExifData> data(CheckPointer(exif_data_new()));
  exif_data_set_byte_order(data.get(), EXIF_BYTE_ORDER_MOTOROLA);
  size_t size = 0;
  const auto add = [&](const char* keyword, ExifIfd directory, ExifTag tag, ExifFormat format) {
    const auto item = text.find(keyword);
    if (item == text.end()) return;
    CheckUtf8(item->second);
    const bool is_comment = tag == EXIF_TAG_USER_COMMENT;
    const std::string value =
        is_comment ? UserComment(item->second) : item->second + std::string(1, '\0');
    size += value.size();
    if (size > kMaxBytes) {
      Fail(ErrorCode::kInvalidArgument,
           "text '{}': too long for JPEG and WebP, which hold {} bytes of it (PNG holds more)",
           keyword, kMaxBytes);
    }
    AddEntry(*data, directory, tag, format, value);
  };
  add("Description", EXIF_IFD_0, EXIF_TAG_IMAGE_DESCRIPTION, EXIF_FORMAT_ASCII);
  add("Software", EXIF_IFD_0, EXIF_TAG_SOFTWARE, EXIF_FORMAT_ASCII);
  add("tamias", EXIF_IFD_EXIF, EXIF_TAG_USER_COMMENT, EXIF_FORMAT_UNDEFINED);
  if (size == 0) return "";
  unsigned char* bytes = nullptr;
  unsigned int num_bytes = 0;
  exif_data_save_data(data.get(), &bytes, &num_bytes);
  const Owned<unsigned char> owned(CheckPointer(bytes));
  return {reinterpret_cast<const char*>(bytes), num_bytes};
}

std::optional<int> ExifOrientation(std::span<const uint8_t> exif) {
  std::string bytes(reinterpret_cast<const char*>(exif.data()), std::min(exif.size(), kMaxBytes));
  if (!bytes.starts_with(kHeader)) bytes.insert(0, kHeader);
  const Owned<ExifData> data(CheckPointer(exif_data_new()));
  exif_data_load_data(data.get(), reinterpret_cast<const unsigned char*>(bytes.data()),
                      static_cast<unsigned int>(bytes.size()));
  const ExifEntry* entry = exif_content_get_entry(data->ifd[EXIF_IFD_0], EXIF_TAG_ORIENTATION);
  if (entry == nullptr || entry->format != EXIF_FORMAT_SHORT || entry->components < 1 ||
      entry->size < 2) {
    return std::nullopt;
  }
  return exif_get_short(entry->data, exif_data_get_byte_order(data.get()));
}

int OrientationOf(std::span<const uint8_t> exif, std::string_view xmp) {
  if (!exif.empty()) {
    if (const std::optional<int> orientation = ExifOrientation(exif)) return *orientation;
  }
  // An attribute or an element: tiff:Orientation="6", <tiff:Orientation>6</tiff:Orientation>.
  for (const std::string_view key : {"tiff:Orientation=\"", "tiff:Orientation>"}) {
    const size_t at = xmp.find(key);
    if (at == xmp.npos || at + key.size() >= xmp.size()) continue;
    const int digit = xmp[at + key.size()] - '0';
    if (digit >= 1 && digit <= 8) return digit;
  }
  return 1;
}

Image TurnUpright(Image image, int orientation) {
  if (orientation < 2 || orientation > 8) return image;
  // A pixel (x, y) goes to (a x + c y, b x + d y), moved back into the first quadrant.
  struct Turn {
    int a, b, c, d;
  };
  constexpr Turn kTurns[] = {{-1, 0, 0, 1}, {-1, 0, 0, -1}, {1, 0, 0, -1}, {0, 1, 1, 0},
                             {0, 1, -1, 0}, {0, -1, -1, 0}, {0, -1, 1, 0}};
  const auto [a, b, c, d] = kTurns[orientation - 2];
  const bool swaps = a == 0;
  Image turned{swaps ? image.height : image.width, swaps ? image.width : image.height, {}};
  turned.rgb.resize(image.rgb.size());
  const int left = a + c < 0 ? turned.width - 1 : 0, top = b + d < 0 ? turned.height - 1 : 0;
  const uint8_t* from = image.rgb.data();
  for (int y = 0; y < image.height; ++y) {
    for (int x = 0; x < image.width; ++x, from += 3) {
      const int64_t to_x = left + a * x + c * y, to_y = top + b * x + d * y;
      std::copy_n(from, 3, turned.rgb.begin() + (to_y * turned.width + to_x) * 3);
    }
  }
  return turned;
}

}  // namespace tamias
