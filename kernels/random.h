// For tests: random numbers.
#pragma once

#include <cstdint>
#include <random>

namespace longseq {

class Random {
 public:
  explicit Random(unsigned seed) : engine_(seed) {}
  std::int64_t upto(std::int64_t low, std::int64_t high) {
    return std::uniform_int_distribution<std::int64_t>(low, high)(engine_);
  }
  double normal() { return normal_(engine_); }

 private:
  std::mt19937 engine_;  // gives the same on all ranks
  std::normal_distribution<double> normal_;
};

}  // namespace longseq
