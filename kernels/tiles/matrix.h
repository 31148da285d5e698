// The matrix unit (Intel AMX): 16 × 32 by 32 × 16 values in bfloat16, added to 16 × 16 sums in f32, at 8 to
// 16 times the rate of the vector units. Not for use outside kernels/.
#pragma once

#include <cstdint>

#include "kernels/tiles/dot.h"

namespace longseq::detail {

inline constexpr std::int64_t kMatrixSide = 16;   // rows and columns of a block of sums; pairs of a step
inline constexpr std::int64_t kMatrixDepth = 32;  // values of a step: what head_dim must be a multiple of

/// Rows rounded up to whole blocks, and values to whole steps.
constexpr std::int64_t in_whole_sides(std::int64_t rows) {
  return (rows + kMatrixSide - 1) / kMatrixSide * kMatrixSide;
}
constexpr std::int64_t whole_steps(std::int64_t values) {
  return (values + kMatrixDepth - 1) / kMatrixDepth;
}

/// Whether this processor and kernel have the unit. Asks the kernel for leave to use it.
bool matrix_unit_usable();

/// While it lives, the thread may multiply: it holds the unit's registers, which otherwise cost every change
/// of threads their saving.
class MatrixUnit {
 public:
  explicit MatrixUnit(bool use);
  ~MatrixUnit();
  MatrixUnit(const MatrixUnit&) = delete;
  MatrixUnit& operator=(const MatrixUnit&) = delete;

 private:
  const bool in_use_;
};

/// sums[m][n] = Σ_k left[m][k] · right[k][n], plus sums[m][n] if `add`, where neighbouring k are pairs: left
/// as [rows][steps · kMatrixSide], right as [steps · kMatrixSide][columns]. rows and columns are multiples of
/// kMatrixSide; distances from row to row count elements. Denormal numbers count as zero.
struct MatrixProduct {
  const Pair* left;
  std::int64_t left_row;
  const Pair* right;
  std::int64_t right_row;
  float* sums;
  std::int64_t sums_row;
  std::int64_t rows;
  std::int64_t columns;
  std::int64_t steps;
  bool add;
};
void multiply(const MatrixProduct& product);

/// FLOPs of `rounds` rounds of products in registers: what the unit can do at most.
double multiply_in_registers(std::int64_t rounds);

}  // namespace longseq::detail
