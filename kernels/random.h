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

/// How many random problems a test draws: under the address sanitizer, which takes ten times as long, a
/// third.
constexpr int trials(int usual) {
#ifdef __SANITIZE_ADDRESS__
  return (usual + 2) / 3;
#else
  return usual;
#endif
}

}  // namespace longseq
