#include "suite/verify.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace longseq {
namespace {

constexpr double kWork = 2e9;  // multiply-adds that all ranks together may spend
constexpr std::int64_t kFewest = 16;

/// Whether query i sees key j: straight from the table in maths.md, section 2.
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

/// Query positions to recompute: all, or evenly spread ones with both ends, twice as many as ranks at least,
/// so that each rank's output is looked at.
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

/// Local row of a position, or −1.
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

/// One query row of one batch entry, all heads, recomputed over the keys of all ranks.
template <class T>
class RowReference {
 public:
  RowReference(MPI_Comm comm, const Pattern& pattern, const DistanceBias<T>& bias,
               const ShardOutput<T>& shard)
      : comm_(comm), pattern_(pattern), bias_(bias), shard_(shard) {
    for (const Run& run : shard.positions) {
      for (std::int64_t t = 0; t < run.count; ++t) key_positions_.push_back(run.at(t));
    }
  }

  /// Fills outputs (heads, head_dim) and lse (heads) on all ranks; gives the largest |score|.
  double recompute(std::int64_t b, std::int64_t position, std::int64_t own_row, std::vector<double>& outputs,
                   std::vector<double>& lse) {
    const auto heads = static_cast<std::size_t>(shard_.q.shape.heads);
    const auto head_dim = static_cast<std::size_t>(shard_.q.shape.head_dim);
    std::vector<double> query(heads * head_dim, 0.0);
    if (own_row >= 0) {
      for (std::size_t h = 0; h < heads; ++h) {
        const T* row = shard_.q.row(b, static_cast<std::int64_t>(h), own_row);
        for (std::size_t d = 0; d < head_dim; ++d) query[h * head_dim + d] = static_cast<double>(row[d]);
      }
    }
    sum_over_ranks(comm_, query);

    std::vector<std::size_t> visible;  // own key rows
    std::vector<double> scores;        // (visible, heads)
    std::vector<double> highest(heads, -std::numeric_limits<double>::infinity());
    double largest = 0;
    for (std::size_t t = 0; t < key_positions_.size(); ++t) {
      if (!sees(pattern_, position, key_positions_[t])) continue;
      visible.push_back(t);
      for (std::size_t h = 0; h < heads; ++h) {
        scores.push_back(score(b, h, position, t, query));
        highest[h] = std::max(highest[h], scores.back());
        largest = std::max(largest, std::abs(scores.back()));
      }
    }
    MPI_Allreduce(MPI_IN_PLACE, highest.data(), static_cast<int>(heads), MPI_DOUBLE, MPI_MAX, comm_);
    MPI_Allreduce(MPI_IN_PLACE, &largest, 1, MPI_DOUBLE, MPI_MAX, comm_);

    outputs.assign(heads * head_dim, 0.0);
    std::vector<double> sums(heads, 0.0);
    for (std::size_t index = 0; index < visible.size(); ++index) {
      for (std::size_t h = 0; h < heads; ++h) {
        const double weight = std::exp(scores[index * heads + h] - highest[h]);
        sums[h] += weight;
        const T* value = shard_.v.row(b, kv_head(h), static_cast<std::int64_t>(visible[index]));
        for (std::size_t d = 0; d < head_dim; ++d)
          outputs[h * head_dim + d] += weight * static_cast<double>(value[d]);
      }
    }
    sum_over_ranks(comm_, sums);
    sum_over_ranks(comm_, outputs);
    lse.assign(heads, -std::numeric_limits<double>::infinity());
    for (std::size_t h = 0; h < heads; ++h) {
      if (sums[h] == 0) continue;
      lse[h] = highest[h] + std::log(sums[h]);
      for (std::size_t d = 0; d < head_dim; ++d) outputs[h * head_dim + d] /= sums[h];
    }
    return largest;
  }

 private:
  std::int64_t kv_head(std::size_t head) const {
    return static_cast<std::int64_t>(head) * shard_.k.shape.heads / shard_.q.shape.heads;
  }

  double score(std::int64_t b, std::size_t h, std::int64_t position, std::size_t t,
               const std::vector<double>& query) const {
    const auto head_dim = static_cast<std::size_t>(shard_.q.shape.head_dim);
    const T* key = shard_.k.row(b, kv_head(h), static_cast<std::int64_t>(t));
    double dot = 0;
    for (std::size_t d = 0; d < head_dim; ++d) dot += query[h * head_dim + d] * static_cast<double>(key[d]);
    const double scaled = dot / std::sqrt(static_cast<double>(head_dim));
    if (bias_.values == nullptr) return scaled;
    const std::int64_t distance = std::clamp(position - key_positions_[t], -bias_.reach, bias_.reach);
    return scaled +
           static_cast<double>(
               bias_.values[static_cast<std::int64_t>(h) * (2 * bias_.reach + 1) + bias_.reach + distance]);
  }

  MPI_Comm comm_;
  const Pattern& pattern_;
  const DistanceBias<T>& bias_;
  const ShardOutput<T>& shard_;
  std::vector<std::int64_t> key_positions_;
};

/// No NaN anywhere, no ∞ in o; lse may be −∞.
template <class T>
bool all_finite(const ShardOutput<T>& shard) {
  const Shape& shape = shard.o.shape;
  for (std::int64_t b = 0; b < shape.batch; ++b) {
    for (std::int64_t h = 0; h < shape.heads; ++h) {
      for (std::int64_t t = 0; t < shape.tokens; ++t) {
        const T* row = shard.o.row(b, h, t);
        if (!std::all_of(row, row + shape.head_dim, [](T value) { return std::isfinite(value); }))
          return false;
        const T lse = *shard.lse.row(b, h, t);
        if (std::isnan(lse) || lse == std::numeric_limits<T>::infinity()) return false;
      }
    }
  }
  return true;
}

}  // namespace

template <class T>
Errors recompute(MPI_Comm comm, const Pattern& pattern, const DistanceBias<T>& bias,
                 const ShardOutput<T>& shard) {
  const std::int64_t heads = shard.q.shape.heads, head_dim = shard.q.shape.head_dim;
  int ranks = 1;
  MPI_Comm_size(comm, &ranks);
  const std::vector<std::int64_t> positions =
      sample(pattern.seq_len, shard.q.shape.batch * heads, head_dim, ranks);
  RowReference<T> reference(comm, pattern, bias, shard);
  std::vector<double> squares(2, 0.0);  // of differences, of the reference
  double worst_lse = 0, largest = 0;
  std::vector<double> outputs, lse;
  for (std::int64_t b = 0; b < shard.q.shape.batch; ++b) {
    for (const std::int64_t position : positions) {
      const std::int64_t row = row_of(shard.positions, position);
      largest = std::max(largest, reference.recompute(b, position, row, outputs, lse));
      if (row < 0) continue;
      for (std::int64_t h = 0; h < heads; ++h) {
        for (std::int64_t d = 0; d < head_dim; ++d) {
          const double expected = outputs[static_cast<std::size_t>(h * head_dim + d)];
          squares[0] += std::pow(static_cast<double>(shard.o.row(b, h, row)[d]) - expected, 2);
          squares[1] += expected * expected;
        }
        const double expected = lse[static_cast<std::size_t>(h)],
                     got = static_cast<double>(*shard.lse.row(b, h, row));
        if (std::isinf(expected) && expected == got) continue;
        worst_lse = std::max(worst_lse, std::abs(got - expected) / std::max(1.0, std::abs(expected)));
      }
    }
  }
  sum_over_ranks(comm, squares);
  int finite = all_finite(shard) ? 1 : 0;
  MPI_Allreduce(MPI_IN_PLACE, &finite, 1, MPI_INT, MPI_MIN, comm);
  MPI_Allreduce(MPI_IN_PLACE, &worst_lse, 1, MPI_DOUBLE, MPI_MAX, comm);
  Errors errors;
  errors.rows = static_cast<std::int64_t>(positions.size());
  errors.output = squares[1] > 0 ? std::sqrt(squares[0] / squares[1]) : std::sqrt(squares[0]);
  errors.lse = worst_lse;
  errors.largest_score = largest;
  errors.finite = finite != 0;
  return errors;
}

double error_bound(double unit, std::int64_t head_dim, std::int64_t keys, double largest_score) {
  const double rounding = 16 + std::sqrt(static_cast<double>(head_dim)) +
                          std::log2(static_cast<double>(std::max<std::int64_t>(keys, 1)));
  return unit * rounding * std::max(1.0, largest_score / 8);
}

template <class T>
double unit_roundoff() {
  return std::numeric_limits<T>::epsilon() / 2;
}

template Errors recompute<float>(MPI_Comm, const Pattern&, const DistanceBias<float>&,
                                 const ShardOutput<float>&);
template Errors recompute<double>(MPI_Comm, const Pattern&, const DistanceBias<double>&,
                                  const ShardOutput<double>&);
template double unit_roundoff<float>();
template double unit_roundoff<double>();

}  // namespace longseq
