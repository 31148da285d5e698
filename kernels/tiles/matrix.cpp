// Blocks of 32 × 32 sums in four of the eight registers; two of left and two of right beside them, so that
// four products follow four loads. Bound: the unit, one product in 16 cycles, where a load takes 8.
#include "kernels/tiles/matrix.h"

#include <cstdlib>

#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && __GNUC__ >= 11 && !defined(__clang__)
#include <cpuid.h>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace longseq::detail {
namespace {

struct alignas(64) Configuration {
  std::uint8_t palette = 1;
  std::uint8_t start_row = 0;
  std::uint8_t reserved[14] = {};
  std::uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

/// The intrinsics do not tell the compiler what they read: all that is to be read must have been written.
void finish_writing() {
  asm volatile("" ::: "memory");
}

[[gnu::target("amx-tile")]] void configure() {
  static const Configuration configuration;
  finish_writing();
  _tile_loadconfig(&configuration);
}
[[gnu::target("amx-tile")]] void release() {
  _tile_release();
}

/// 16·kRows × 16·kColumns sums from `row` and `column` on. Registers: 0 to 3 sums, 4 and 5 left, 6 and 7
/// right.
template <int kRows, int kColumns>
[[gnu::target("amx-tile,amx-bf16")]] void multiply_block(const MatrixProduct& p, std::int64_t row,
                                                         std::int64_t column) {
  constexpr std::int64_t kBytes = 4;  // of an element of each operand
  float* const sums = p.sums + row * p.sums_row + column;
  float* const below = sums + kMatrixSide * p.sums_row;
  const std::int64_t sums_row = kBytes * p.sums_row, left_row = kBytes * p.left_row,
                     right_row = kBytes * p.right_row;
  if (p.add) {
    _tile_loadd(0, sums, sums_row);
    if (kColumns == 2) _tile_loadd(1, sums + kMatrixSide, sums_row);
    if (kRows == 2) _tile_loadd(2, below, sums_row);
    if (kRows == 2 && kColumns == 2) _tile_loadd(3, below + kMatrixSide, sums_row);
  } else {
    _tile_zero(0);
    if (kColumns == 2) _tile_zero(1);
    if (kRows == 2) _tile_zero(2);
    if (kRows == 2 && kColumns == 2) _tile_zero(3);
  }
  const Pair* left = p.left + row * p.left_row;
  const Pair* right = p.right + column;
  for (std::int64_t step = 0; step < p.steps; ++step) {
    _tile_loadd(6, right, right_row);
    _tile_loadd(4, left, left_row);
    _tile_dpbf16ps(0, 4, 6);
    if (kColumns == 2) {
      _tile_loadd(7, right + kMatrixSide, right_row);
      _tile_dpbf16ps(1, 4, 7);
    }
    if (kRows == 2) {
      _tile_loadd(5, left + kMatrixSide * p.left_row, left_row);
      _tile_dpbf16ps(2, 5, 6);
    }
    if (kRows == 2 && kColumns == 2) _tile_dpbf16ps(3, 5, 7);
    left += kMatrixSide;
    right += kMatrixSide * p.right_row;
  }
  _tile_stored(0, sums, sums_row);
  if (kColumns == 2) _tile_stored(1, sums + kMatrixSide, sums_row);
  if (kRows == 2) _tile_stored(2, below, sums_row);
  if (kRows == 2 && kColumns == 2) _tile_stored(3, below + kMatrixSide, sums_row);
}

template <int kRows>
void multiply_rows(const MatrixProduct& p, std::int64_t row) {
  std::int64_t column = 0;
  for (; column + kMatrixSide < p.columns; column += 2 * kMatrixSide)
    multiply_block<kRows, 2>(p, row, column);
  if (column < p.columns) multiply_block<kRows, 1>(p, row, column);
}

bool ask_for_leave() {
  constexpr unsigned kTiles = 1u << 24, kBFloat16 = 1u << 22;  // of edx
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0 || (d & kTiles) == 0 || (d & kBFloat16) == 0) return false;
  constexpr long kRequest = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, kRequest, kTileData) == 0;
}

}  // namespace

bool matrix_unit_usable() {
  static const bool usable = ask_for_leave();
  return usable;
}

MatrixUnit::MatrixUnit(bool use) : in_use_(use) {
  if (in_use_) configure();
}
MatrixUnit::~MatrixUnit() {
  if (in_use_) release();
}

void multiply(const MatrixProduct& product) {
  finish_writing();
  std::int64_t row = 0;
  for (; row + kMatrixSide < product.rows; row += 2 * kMatrixSide) multiply_rows<2>(product, row);
  if (row < product.rows) multiply_rows<1>(product, row);
}

[[gnu::target("amx-tile,amx-bf16")]] double multiply_in_registers(std::int64_t rounds) {
  const MatrixUnit unit(true);
  _tile_zero(4);
  _tile_zero(5);
  for (std::int64_t round = 0; round < rounds; ++round) {
    _tile_dpbf16ps(0, 4, 5);
    _tile_dpbf16ps(1, 4, 5);
    _tile_dpbf16ps(2, 4, 5);
    _tile_dpbf16ps(3, 4, 5);
  }
  return 2.0 * static_cast<double>(4 * rounds * kMatrixSide * kMatrixSide * kMatrixDepth);
}

}  // namespace longseq::detail

#else

namespace longseq::detail {

bool matrix_unit_usable() {
  return false;
}
MatrixUnit::MatrixUnit(bool use) : in_use_(use) {}
MatrixUnit::~MatrixUnit() = default;
void multiply(const MatrixProduct&) {
  std::abort();  // matrix_unit_usable() is false
}
double multiply_in_registers(std::int64_t) {
  return 0;
}

}  // namespace longseq::detail

#endif
