// Where results go: names for several of them, checks before the work begins, and writing, during
// which Ctrl-C works.
#pragma once

#include <cstddef>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "tamias/pipeline.h"

namespace tamias::cli {

// "-" is standard output, like /dev/stdout.
std::filesystem::path OutputPath(const std::string& name);
bool IsStandardOutput(const std::filesystem::path& path);

// What a picture is written as: by the extension; PNG to standard output, devices and pipes that
// have none. Throws for other extensions, naming the option and those that are known.
ImageFormat PictureFormat(const char* option, const std::filesystem::path& path);

// picture.png for one result; picture-1.png, picture-2.png, ... for several.
std::filesystem::path NumberedPath(const std::filesystem::path& path, size_t index, size_t count);

// path + infix + extension or, where there is something of that name, with -2, -3, ... before the
// extension.
std::filesystem::path FreePath(const std::filesystem::path& path, const std::string& infix,
                               const std::string& extension);

// Throws when a file cannot be created there: an hour of work must not end at such a path. An empty
// path is one that nobody asked for.
void CheckWritable(const std::filesystem::path& path);

// CheckWritable of each of `count` numbered files. Throws also when there is one more of these
// names, from an earlier run with more results: it would pass for one of this run.
void CheckWritableNumbered(const std::filesystem::path& path, size_t count);

void CreateFolder(const std::filesystem::path& folder);

// Where the frames of one of `count` films go: the folder, or film-1, film-2, ... in it.
std::filesystem::path FramesFolder(const std::filesystem::path& folder, size_t index, size_t count);

// frame-0001.png of index 0.
std::filesystem::path FramePath(const std::filesystem::path& folder, size_t index);

// Creates the folder and throws when frames cannot be written there, or when it holds frames or
// films that this run would not write over: they would pass for part of it.
void CheckFramesFolder(const std::filesystem::path& folder, size_t num_frames, size_t count);

// Throws when the folder holds one of `names`, a result of an earlier run that this one does not
// write over.
void RefuseLeftOvers(const char* option, const std::filesystem::path& folder,
                     const std::vector<std::string>& names);

// Runs what writes the file `path`. A signal waits while it writes to a disk, which does not take
// long and is then undone or whole; it ends the program while it writes to a pipe, which may take
// for ever.
void WriteUninterrupted(const std::filesystem::path& path, const std::function<void()>& write);

// The bytes that `encode` makes, complete or not at all. A signal ends the program while it
// encodes.
void WriteOutput(const std::filesystem::path& path, const std::function<std::string()>& encode);

void WritePicture(const std::filesystem::path& path, ImageFormat format, const Image& image,
                  const std::map<std::string, std::string>& text, const ImageOptions& options = {});

// MP4, or animated WebP where the extension says so.
void WriteFilm(const std::filesystem::path& path, const Video& video,
               const std::map<std::string, std::string>& text);

// folder/frame-0001.png, folder/frame-0002.png, ...
void WriteFrames(const std::filesystem::path& folder, const Video& video,
                 const std::map<std::string, std::string>& text);

}  // namespace tamias::cli
