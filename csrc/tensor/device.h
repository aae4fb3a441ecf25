#pragma once
#include <string>

namespace pe {

struct Device {
  enum Type : unsigned char { CPU, CUDA } type = CPU;
  short index = 0;
  bool operator==(const Device&) const = default;
};

std::string device_name(Device device);
Device parse_device(
    const std::string& text);  // "cpu", "cuda", "cuda:1"; raises for anything that this build cannot serve

}  // namespace pe
