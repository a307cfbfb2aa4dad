// Whole files: reading with a limit, and output that appears under its name only when it is
// complete. Until then its bytes lie in a file without a name in the target's folder, of which
// nothing is left however the process ends; where the file system has no such files, under a short
// temporary name. Links are followed and kept. Devices, pipes and open descriptors (/dev/stdout,
// /dev/fd/3) are written directly.
//
//   tamias::CheckCanWrite("report.json");  // before an hour of work
//   tamias::WriteFileAtomically("report.json", result.report_json);
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>

namespace tamias {

// Throws kNotFound, kIo, or kInvalidFile when the file is larger than max_bytes.
std::string ReadFile(const std::filesystem::path& path, size_t max_bytes);

// The whole text in one call. Throws kIo, "path: cannot create: <reason>", also for folders and for
// files that this user may not write, and "path: cannot write: No space left on device". Opening a
// named pipe waits for its reader.
void WriteFileAtomically(const std::filesystem::path& path, std::string_view text);

// Throws as WriteFileAtomically when the file cannot be created, without opening what a probe would
// disturb: a pipe's reader would take a writer that comes and goes for the end.
void CheckCanWrite(const std::filesystem::path& path);

// Whether the path names something that is written directly: a device, a pipe, an open descriptor.
bool IsWrittenDirectly(const std::filesystem::path& path);

// Where temporary files belong that may be large: $TMPDIR, else /var/tmp, which is on a disk where
// /tmp may not be.
std::filesystem::path SpillFolder();

// The open descriptor that a path like /dev/stdout names, -1 for others.
int DescriptorOf(const std::filesystem::path& path);

}  // namespace tamias
