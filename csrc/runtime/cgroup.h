// What Linux control groups (version 1 and 2) allow this process: a container's limits, which the machine's own figures
// hide.
#pragma once
#include <cstdint>
#include <string>

namespace pe {

// Where the kernel tells it; tests point these at files of their own.
struct CgroupPaths {
  std::string self = "/proc/self/cgroup";
  std::string root = "/sys/fs/cgroup";
};

double cgroup_cores(const CgroupPaths& paths = {});         // the CPU quota in cores, infinity without one
int64_t cgroup_memory_left(const CgroupPaths& paths = {});  // in bytes, INT64_MAX without a limit

}  // namespace pe
