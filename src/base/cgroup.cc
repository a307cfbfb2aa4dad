// /proc/self/cgroup names the group of each hierarchy, /proc/self/mountinfo where the hierarchies
// are mounted; then each folder from the group up to the mount is read. Formats: cgroups(7),
// proc_pid_mountinfo(5) and the kernel's Documentation/admin-guide/cgroup-v2.rst.
#include "base/cgroup.h"

#include <charconv>
#include <fstream>
#include <limits>
#include <optional>
#include <sstream>
#include <string_view>

namespace tamias {
namespace {

namespace fs = std::filesystem;

std::vector<std::string> Lines(const fs::path& file) {
  std::ifstream stream(file);
  std::vector<std::string> lines;
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

// A whole non-negative number; nothing for "max", "-1" and what is none.
std::optional<size_t> ParseCount(std::string_view text) {
  size_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return {};
  return value;
}

std::optional<size_t> ReadCount(const fs::path& file) {
  const std::vector<std::string> lines = Lines(file);
  return lines.empty() ? std::nullopt : ParseCount(lines.front());
}

// A key's number in lines "key number".
std::optional<size_t> FindField(const std::vector<std::string>& lines, std::string_view key) {
  for (const std::string& line : lines) {
    if (line.size() > key.size() && line.starts_with(key) && line[key.size()] == ' ') {
      return ParseCount(std::string_view(line).substr(key.size() + 1));
    }
  }
  return {};
}

// Whether a comma-separated list has an item.
bool Has(std::string_view list, std::string_view item) {
  while (!list.empty()) {
    const size_t comma = std::min(list.find(','), list.size());
    if (list.substr(0, comma) == item) return true;
    list.remove_prefix(std::min(comma + 1, list.size()));
  }
  return false;
}

// mountinfo writes blanks and backslashes as three octal digits behind a backslash.
std::string Unescape(std::string_view text) {
  std::string plain;
  for (size_t i = 0; i < text.size(); ++i) {
    int byte = 0;
    if (text[i] == '\\' && i + 3 < text.size() + 0 &&
        std::from_chars(&text[i + 1], &text[i + 1] + 3, byte, 8).ptr == &text[i + 1] + 3) {
      plain += static_cast<char>(byte);
      i += 3;
    } else {
      plain += text[i];
    }
  }
  return plain;
}

struct Mount {
  std::string root;   // the group that is mounted: "/" or, in containers, one further down
  std::string point;  // where
  bool is_v2 = false;
  std::string controllers;  // of version 1: "rw,cpu,cpuacct"
};

// id parent major:minor root point options [optional...] - type source super-options
std::optional<Mount> ParseMount(const std::string& line) {
  const size_t separator = line.find(" - ");
  if (separator == std::string::npos) return {};
  std::istringstream before(line.substr(0, separator)), after(line.substr(separator + 3));
  std::string skipped, root, point, type, source, options;
  before >> skipped >> skipped >> skipped >> root >> point;
  after >> type >> source >> options;
  if (point.empty() || (type != "cgroup" && type != "cgroup2")) return {};
  return Mount{Unescape(root), Unescape(point), type == "cgroup2", options};
}

// The path of a group below a mount's root; nothing when it lies elsewhere.
std::optional<std::string> Below(const std::string& root, const std::string& group) {
  if (root == "/") return group.substr(std::min<size_t>(1, group.size()));
  if (!group.starts_with(root)) return {};
  const std::string rest = group.substr(root.size());
  if (!rest.empty() && rest.front() != '/') return {};
  return rest.empty() ? rest : rest.substr(1);
}

// The folders of a group and of all groups above it, up to the mount. A process in a container may
// be told a path that exists only outside of it: then its group is the one that is mounted.
std::vector<fs::path> GroupFolders(const fs::path& root, const std::vector<Mount>& mounts,
                                   const std::string& group, bool is_v2,
                                   std::string_view controller) {
  const Mount* best = nullptr;
  std::optional<std::string> best_below;
  for (const Mount& mount : mounts) {
    if (mount.is_v2 != is_v2 || (!is_v2 && !Has(mount.controllers, controller))) continue;
    const std::optional<std::string> below = Below(mount.root, group);
    const bool is_nearer = below && (!best_below || below->size() < best_below->size());
    if (best == nullptr || is_nearer) {
      best = &mount;
      best_below = below;
    }
  }
  if (best == nullptr) return {};
  const fs::path top = root / fs::path(best->point).relative_path();
  std::vector<fs::path> folders = {top};
  for (const fs::path& part : fs::path(best_below.value_or(""))) {
    if (part == "..") return {top};  // outside of what this process is shown
    if (!part.empty()) folders.push_back(folders.back() / part);
  }
  return folders;
}

void AddLimits(const fs::path& folder, bool is_v2, std::vector<CgroupCpuLimit>& limits) {
  std::optional<size_t> quota, period;
  const fs::path file = folder / (is_v2 ? "cpu.max" : "cpu.cfs_quota_us");
  if (is_v2) {
    const std::vector<std::string> lines = Lines(file);
    std::istringstream line(lines.empty() ? "" : lines.front());
    std::string first, second;
    line >> first >> second;
    quota = ParseCount(first);
    period = ParseCount(second);
  } else {
    quota = ReadCount(file);
    period = ReadCount(folder / "cpu.cfs_period_us");
  }
  if (!quota || !period || *quota == 0 || *period == 0) return;
  limits.push_back({file.string(), static_cast<double>(*quota) / static_cast<double>(*period)});
}

void AddLimits(const fs::path& folder, bool is_v2, std::vector<CgroupMemoryLimit>& limits) {
  const fs::path stat = folder / "memory.stat";
  const std::vector<std::string> fields = Lines(stat);
  const size_t used =
      ReadCount(folder / (is_v2 ? "memory.current" : "memory.usage_in_bytes")).value_or(0);
  const size_t droppable =
      FindField(fields, is_v2 ? "inactive_file" : "total_inactive_file").value_or(0);
  const auto add = [&](const fs::path& file, std::optional<size_t> bytes) {
    // Version 1 writes "no limit" as the largest whole number of pages.
    if (!bytes || *bytes >= size_t{1} << 62) return;
    limits.push_back({file.string(), *bytes, used - std::min(used, droppable)});
  };
  if (is_v2) {
    add(folder / "memory.max", ReadCount(folder / "memory.max"));
    add(folder / "memory.high", ReadCount(folder / "memory.high"));
  } else {
    add(folder / "memory.limit_in_bytes", ReadCount(folder / "memory.limit_in_bytes"));
    // Also of the groups above the mount, which have no folder here.
    add(stat, FindField(fields, "hierarchical_memory_limit"));
  }
}

template <typename Limit>
std::vector<Limit> ReadLimits(const fs::path& root, std::string_view controller) {
  std::vector<Mount> mounts;
  for (const std::string& line : Lines(root / "proc/self/mountinfo")) {
    if (const std::optional<Mount> mount = ParseMount(line)) mounts.push_back(*mount);
  }
  std::vector<Limit> limits;
  for (const std::string& line : Lines(root / "proc/self/cgroup")) {  // id:controllers:group
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const std::string group = line.substr(second + 1);
    const bool is_v2 = controllers.empty();
    if (!is_v2 && !Has(controllers, controller)) continue;
    for (const fs::path& folder : GroupFolders(root, mounts, group, is_v2, controller)) {
      AddLimits(folder, is_v2, limits);
    }
  }
  return limits;
}

}  // namespace

std::vector<CgroupCpuLimit> ReadCgroupCpuLimits(const fs::path& root) {
  return ReadLimits<CgroupCpuLimit>(root, "cpu");
}

std::vector<CgroupMemoryLimit> ReadCgroupMemoryLimits(const fs::path& root) {
  return ReadLimits<CgroupMemoryLimit>(root, "memory");
}

}  // namespace tamias
