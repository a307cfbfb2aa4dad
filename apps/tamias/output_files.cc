// Numbered names, writability tried before the work begins, frames as frame-0001.png and on.
#include "output_files.h"

#include <fmt/format.h>

#include <charconv>
#include <string_view>
#include <system_error>

#include "fail.h"
#include "interrupt.h"
#include "tamias/files.h"

namespace tamias::cli {
namespace {

// 3 of "film-3" or "frame-0003.png"; nothing for names of another pattern.
std::optional<size_t> NumberOf(std::string_view name, std::string_view prefix,
                               std::string_view suffix) {
  if (!name.starts_with(prefix) || !name.ends_with(suffix) ||
      name.size() < prefix.size() + suffix.size()) {
    return std::nullopt;
  }
  name.remove_prefix(prefix.size());
  name.remove_suffix(suffix.size());
  size_t number = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
  if (error != std::errc() || end != name.data() + name.size()) return std::nullopt;
  return number;
}

[[noreturn]] void FailLeftOver(const char* option, const std::filesystem::path& path) {
  Fail(ErrorCode::kInvalidArgument,
       "{}: {} is there from an earlier run, and this one would not write over it: remove it or "
       "choose another name",
       option, path.string());
}

// Only frames 1 to num_frames, or films 1 to num_films, of what has our names.
void CheckHoldsOnly(const std::filesystem::path& folder, size_t num_frames, size_t num_films) {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string();
    const auto frame = NumberOf(name, "frame-", ".png");
    const auto film = NumberOf(name, "film-", "");
    if ((frame && (*frame < 1 || *frame > num_frames)) ||
        (film && (*film < 1 || *film > num_films))) {
      FailLeftOver("frames-dir", entry.path());
    }
  }
}

}  // namespace

std::filesystem::path OutputPath(const std::string& name) {
  return name == "-" ? "/dev/stdout" : name;
}

bool IsStandardOutput(const std::filesystem::path& path) { return DescriptorOf(path) == 1; }

ImageFormat PictureFormat(const char* option, const std::filesystem::path& path) {
  if (const auto format = ImageFormatOf(path)) return *format;
  if (path.has_extension() || !IsWrittenDirectly(path)) {
    Fail(ErrorCode::kInvalidArgument, "{}: '{}': expected a name that ends in {}", option,
         path.string(), kImageExtensions);
  }
  return ImageFormat::kPng;
}

std::filesystem::path NumberedPath(const std::filesystem::path& path, size_t index, size_t count) {
  if (count == 1) return path;
  std::filesystem::path numbered = path;
  return numbered.replace_filename(
      fmt::format("{}-{}{}", path.stem().string(), index + 1, path.extension().string()));
}

std::filesystem::path FreePath(const std::filesystem::path& path, const std::string& infix,
                               const std::string& extension) {
  std::error_code error;
  std::filesystem::path free = path;
  free += infix + extension;
  for (int i = 2; std::filesystem::exists(std::filesystem::symlink_status(free, error)); ++i) {
    free = path;
    free += fmt::format("{}-{}{}", infix, i, extension);
  }
  return free;
}

void CheckWritable(const std::filesystem::path& path) {
  if (!path.empty()) CheckCanWrite(path);
}

void CheckWritableNumbered(const std::filesystem::path& path, size_t count) {
  if (count > 1 && IsWrittenDirectly(path)) {
    Fail(ErrorCode::kInvalidArgument, "output: '{}' takes one result, and --num-images asks for {}",
         path.string(), count);
  }
  for (size_t i = 0; i < count; ++i) CheckWritable(NumberedPath(path, i, count));
  if (count > 1) {
    const auto next = NumberedPath(path, count, count + 1);
    RefuseLeftOvers("output", next.parent_path(), {next.filename().string()});
  }
}

void CreateFolder(const std::filesystem::path& folder) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) Fail(ErrorCode::kIo, "{}: cannot create: {}", folder.string(), error.message());
}

std::filesystem::path FramesFolder(const std::filesystem::path& folder, size_t index,
                                   size_t count) {
  return count == 1 ? folder : folder / fmt::format("film-{}", index + 1);
}

std::filesystem::path FramePath(const std::filesystem::path& folder, size_t index) {
  return folder / fmt::format("frame-{:04}.png", index + 1);
}

void CheckFramesFolder(const std::filesystem::path& folder, size_t num_frames, size_t count) {
  CreateFolder(folder);
  CheckHoldsOnly(folder, count == 1 ? num_frames : 0, count == 1 ? 0 : count);
  for (size_t i = 0; i < count; ++i) {
    const auto frames = FramesFolder(folder, i, count);
    if (std::filesystem::exists(frames)) {
      CheckHoldsOnly(frames, num_frames, 0);
      CheckWritable(FramePath(frames, 0));
    } else {
      CheckWritable(frames);  // in a folder that can be written, the folders can be made
    }
  }
}

void RefuseLeftOvers(const char* option, const std::filesystem::path& folder,
                     const std::vector<std::string>& names) {
  for (const std::string& name : names) {
    std::error_code error;
    const std::filesystem::path path = folder / name;
    if (std::filesystem::exists(std::filesystem::symlink_status(path, error))) {
      FailLeftOver(option, path);
    }
  }
}

void WriteUninterrupted(const std::filesystem::path& path, const std::function<void()>& write) {
  const RememberSignals signals;
  if (IsWrittenDirectly(path)) {
    const EndAtSignals end;
    write();
    return;
  }
  write();
  CheckInterrupted();
}

void WriteOutput(const std::filesystem::path& path, const std::function<std::string()>& encode) {
  std::string bytes;
  {
    const EndAtSignals end;
    bytes = encode();
  }
  WriteUninterrupted(path, [&] { WriteFileAtomically(path, bytes); });
}

void WritePicture(const std::filesystem::path& path, ImageFormat format, const Image& image,
                  const std::map<std::string, std::string>& text, const ImageOptions& options) {
  WriteOutput(path, [&] { return EncodeImage(format, image, text, options); });
}

void WriteFilm(const std::filesystem::path& path, const Video& video,
               const std::map<std::string, std::string>& text) {
  WriteOutput(path, [&] {
    return EncodeVideo(VideoFormatOf(path).value_or(VideoFormat::kMp4), video, text);
  });
}

void WriteFrames(const std::filesystem::path& folder, const Video& video,
                 const std::map<std::string, std::string>& text) {
  for (size_t i = 0; i < video.frames.size(); ++i) {
    WritePicture(FramePath(folder, i), ImageFormat::kPng, video.frames[i], text);
  }
}

}  // namespace tamias::cli
