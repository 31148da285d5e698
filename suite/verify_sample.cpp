#include "suite/verify_sample.h"

#include <algorithm>

namespace longseq {
namespace {

constexpr double kWork = 2e9;  // multiply-adds that all ranks together may spend
constexpr std::int64_t kFewest = 16;

}  // namespace

bool sees(const Pattern& p, std::int64_t i, std::int64_t j) {
  if (p.causal && j > i) return false;
  const bool in_window = j >= i - p.window_left && j <= i + p.window_right;
  switch (p.kind) {
    case PatternKind::full:
      return true;
    case PatternKind::local:
      return in_window;
    case PatternKind::global:
      return in_window || j < p.global_tokens || i < p.global_tokens;
    case PatternKind::segment:
      return j <= i && j >= i - i % p.segment_length - p.memory_length;
    case PatternKind::document: {
      const auto boundary =
          std::upper_bound(p.document_starts.begin(), p.document_starts.end(), std::min(i, j));
      return boundary == p.document_starts.end() || *boundary > std::max(i, j);
    }
  }
  return false;
}

std::vector<std::int64_t> sample(std::int64_t seq_len, std::int64_t heads, std::int64_t head_dim,
                                 std::int64_t ranks) {
  const double row_work = 2.0 * static_cast<double>(seq_len * heads * head_dim);
  const auto affordable = static_cast<std::int64_t>(kWork / row_work);
  const std::int64_t count = std::min(seq_len, std::max({kFewest, 2 * ranks, affordable}));
  std::vector<std::int64_t> rows;
  for (std::int64_t index = 0; index < count; ++index) {
    rows.push_back(count == 1 ? 0 : index * (seq_len - 1) / (count - 1));
  }
  return rows;
}

std::int64_t row_of(const std::vector<Run>& runs, std::int64_t position) {
  std::int64_t first = 0;
  for (const Run& run : runs) {
    const Interval rows = run.rows_in({position, position + 1});
    if (!rows.empty()) return first + rows.begin;
    first += run.count;
  }
  return -1;
}

void sum_over_ranks(MPI_Comm comm, std::vector<double>& values) {
  MPI_Allreduce(MPI_IN_PLACE, values.data(), static_cast<int>(values.size()), MPI_DOUBLE, MPI_SUM, comm);
}

}  // namespace longseq
