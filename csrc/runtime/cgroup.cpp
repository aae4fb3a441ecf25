#include "runtime/cgroup.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <sstream>
#include <vector>

namespace pe {
namespace {

// The directories, in both versions' layouts, that may hold a controller's files for this process's group and its
// ancestors: every one of them limits. A container often sees its own group as the root while /proc/self/cgroup still
// names the path outside, so paths that do not exist are normal and skipped by the readers.
std::vector<std::string> group_directories(const CgroupPaths& paths, const std::string& controller) {
  std::vector<std::string> directories;
  std::ifstream file(paths.self);
  std::string line;
  while (std::getline(file, line)) {  // hierarchy:controllers:path; no controllers in version 2
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    std::vector<std::string> mounts;
    if (controllers.empty()) {
      mounts = {paths.root, paths.root + "/unified"};
    } else if (("," + controllers + ",").find("," + controller + ",") != std::string::npos) {
      mounts = {paths.root + "/" + controllers, paths.root + "/" + controller};
    }
    for (const std::string& mount : mounts) {
      std::string path = line.substr(second + 1);
      for (;;) {
        directories.push_back(mount + path);
        if (path.empty() || path == "/") break;
        path.resize(path.rfind('/') == std::string::npos ? 0 : path.rfind('/'));
      }
    }
  }
  return directories;
}

// The file's first number; false where there is none ("max") or no such file.
template <class T>
bool read_number(const std::string& path, T& value) {
  std::ifstream file(path);
  return static_cast<bool>(file >> value);
}

// Page cache that the kernel drops when the group needs memory; it counts as used otherwise.
int64_t droppable(const std::string& directory) {
  std::ifstream file(directory + "/memory.stat");
  std::string key;
  int64_t value, own = 0, total = 0;
  while (file >> key >> value) {
    if (key == "inactive_file" || key == "active_file") own += value;
    if (key == "total_inactive_file" || key == "total_active_file") total += value;  // version 1: with descendants
  }
  return std::max(own, total);
}

}  // namespace

double cgroup_cores(const CgroupPaths& paths) {
  double cores = std::numeric_limits<double>::infinity();
  for (const std::string& directory : group_directories(paths, "cpu")) {
    double quota, period;
    std::ifstream v2(directory + "/cpu.max");  // "150000 100000" or "max 100000"
    const bool limited = (v2 >> quota >> period) || (read_number(directory + "/cpu.cfs_quota_us", quota) &&
                                                     read_number(directory + "/cpu.cfs_period_us", period));
    if (limited && quota > 0 && period > 0) cores = std::min(cores, quota / period);
  }
  return cores;
}

int64_t cgroup_memory_left(const CgroupPaths& paths) {
  int64_t left = std::numeric_limits<int64_t>::max();
  for (const std::string& directory : group_directories(paths, "memory")) {
    int64_t limit, used;
    const bool limited =
        (read_number(directory + "/memory.max", limit) && read_number(directory + "/memory.current", used)) ||
        (read_number(directory + "/memory.limit_in_bytes", limit) &&
         read_number(directory + "/memory.usage_in_bytes", used));
    if (limited) left = std::min(left, std::max(limit - used + droppable(directory), int64_t{0}));
  }
  return left;
}

}  // namespace pe
