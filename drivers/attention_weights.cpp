#include "drivers/attention_weights.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "kernels/parallel_rows.h"
#include "suite/verify_score.h"

namespace longseq {
namespace {

/// All ranks' keys by position, (batch, kv_heads, seq_len, head_dim).
template <class T>
Tensor<double> gather_keys(MPI_Comm comm, const Problem& problem, const Shard& shard, TensorView<const T> k) {
  Tensor<double> whole({problem.batch, problem.kv_heads, problem.pattern.seq_len, problem.head_dim});
  std::fill_n(whole.data(), whole.shape().elements(), 0.0);
  for (std::int64_t b = 0; b < problem.batch; ++b) {
    for (std::int64_t h = 0; h < problem.kv_heads; ++h) {
      std::int64_t row = 0;
      for (const Run& run : shard) {
        for (std::int64_t t = 0; t < run.count; ++t, ++row) {
          std::transform(k.row(b, h, row), k.row(b, h, row) + problem.head_dim,
                         whole.view().row(b, h, run.at(t)),
                         [](T value) { return static_cast<double>(value); });
        }
      }
      MPI_Allreduce(MPI_IN_PLACE, whole.view().row(b, h, 0),
                    static_cast<int>(problem.pattern.seq_len * problem.head_dim), MPI_DOUBLE, MPI_SUM, comm);
    }
  }
  return whole;
}

/// Scores of one query over the visible keys, in f64: (key position, score).
template <class T>
std::vector<std::pair<std::int64_t, double>> scores_of(const Problem& problem,
                                                       const PositionTerms<Accumulator<T>>& terms,
                                                       std::int64_t head, std::int64_t position,
                                                       const T* query, TensorView<const double> keys) {
  const VisibleKeys visible = problem.pattern.visible_keys(position);
  std::vector<std::pair<std::int64_t, double>> scores;
  for (const Interval& interval : {visible.first, visible.second}) {
    for (std::int64_t j = interval.begin; j < interval.end; ++j) {
      const double* key = keys.row(0, head * problem.kv_heads / problem.heads, j);
      scores.emplace_back(j, exact_score(terms, head, position - j, query, key, problem.head_dim));
    }
  }
  return scores;
}

}  // namespace

template <class T>
void attention_weights(MPI_Comm comm, const Problem& problem, const PositionTerms<Accumulator<T>>& terms,
                       TensorView<const T> q, TensorView<const T> k, TensorView<Accumulator<T>> weights) {
  using A = Accumulator<T>;
  int rank = 0;
  MPI_Comm_rank(comm, &rank);
  const Shard shard = problem.layout.shard(rank);
  const Tensor<double> keys = gather_keys(comm, problem, shard, k);
  std::vector<std::int64_t> positions;
  for (const Run& run : shard) {
    for (std::int64_t t = 0; t < run.count; ++t) positions.push_back(run.at(t));
  }
  parallel_rows(q.shape, [&](std::int64_t b, std::int64_t h, std::int64_t row) {
    TensorView<const double> entry = keys.view();
    entry.data += b * entry.batch_stride;
    const auto scores =
        scores_of<T>(problem, terms, h, positions[static_cast<std::size_t>(row)], q.row(b, h, row), entry);
    double highest = -std::numeric_limits<double>::infinity(), sum = 0;
    for (const auto& [j, score] : scores) highest = std::max(highest, score);
    for (const auto& [j, score] : scores) sum += std::exp(score - highest);
    A* out = weights.row(b, h, row);
    std::fill_n(out, problem.pattern.seq_len, A{0});
    for (const auto& [j, score] : scores) out[j] = static_cast<A>(std::exp(score - highest) / sum);
  });
}

#define LONGSEQ_INSTANTIATE(T)                                                                       \
  template void attention_weights<T>(MPI_Comm, const Problem&, const PositionTerms<Accumulator<T>>&, \
                                     TensorView<const T>, TensorView<const T>, TensorView<Accumulator<T>>);
LONGSEQ_INSTANTIATE(float)
LONGSEQ_INSTANTIATE(double)
LONGSEQ_INSTANTIATE(BFloat16)
#undef LONGSEQ_INSTANTIATE

}  // namespace longseq
