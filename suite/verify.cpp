#include "suite/verify.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>

#include "suite/verify_sample.h"
#include "suite/verify_score.h"

namespace longseq {
namespace {

/// One query row of one batch entry, all heads, recomputed over the keys of all ranks.
template <class T>
class RowReference {
 public:
  RowReference(MPI_Comm comm, const Pattern& pattern, const PositionTerms<Accumulator<T>>& terms,
               const ShardOutput<T>& shard)
      : comm_(comm), pattern_(pattern), terms_(terms), shard_(shard) {
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
        scores.push_back(exact_score(
            terms_, static_cast<std::int64_t>(h), position - key_positions_[t], &query[h * head_dim],
            shard_.k.row(b, kv_head(h), static_cast<std::int64_t>(t)), shard_.q.shape.head_dim));
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

  MPI_Comm comm_;
  const Pattern& pattern_;
  const PositionTerms<Accumulator<T>>& terms_;
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
        if (!std::all_of(row, row + shape.head_dim,
                         [](T value) { return std::isfinite(static_cast<double>(value)); }))
          return false;
        const auto lse = static_cast<double>(*shard.lse.row(b, h, t));
        if (!std::isfinite(lse)) return false;  // in every pattern a query sees itself
      }
    }
  }
  return true;
}

}  // namespace

template <class T>
Errors recompute(MPI_Comm comm, const Pattern& pattern, const PositionTerms<Accumulator<T>>& terms,
                 const ShardOutput<T>& shard) {
  const std::int64_t heads = shard.q.shape.heads, head_dim = shard.q.shape.head_dim;
  int ranks = 1;
  MPI_Comm_size(comm, &ranks);
  const std::vector<std::int64_t> positions =
      sample(pattern.seq_len, shard.q.shape.batch * heads, head_dim, ranks);
  RowReference<T> reference(comm, pattern, terms, shard);
  std::vector<double> squares(2, 0.0);  // of the rows' relative errors, and how many they are
  double worst_lse = 0, largest = 0;
  std::vector<double> outputs, lse;
  for (std::int64_t b = 0; b < shard.q.shape.batch; ++b) {
    for (const std::int64_t position : positions) {
      const std::int64_t row = row_of(shard.positions, position);
      largest = std::max(largest, reference.recompute(b, position, row, outputs, lse));
      if (row < 0) continue;
      for (std::int64_t h = 0; h < heads; ++h) {
        double difference = 0, norm = 0;
        for (std::int64_t d = 0; d < head_dim; ++d) {
          const double expected = outputs[static_cast<std::size_t>(h * head_dim + d)];
          difference += std::pow(static_cast<double>(shard.o.row(b, h, row)[d]) - expected, 2);
          norm += expected * expected;
        }
        squares[0] += norm > 0 ? difference / norm : difference;
        squares[1] += 1;
        const double expected = lse[static_cast<std::size_t>(h)],
                     got = static_cast<double>(*shard.lse.row(b, h, row));
        if (std::isinf(expected) && expected == got) continue;
        const double error = std::abs(got - expected) / std::max(1.0, std::abs(expected));
        if (!(error <= worst_lse))
          worst_lse = std::isnan(error) ? std::numeric_limits<double>::infinity() : error;
      }
    }
  }
  sum_over_ranks(comm, squares);
  int finite = all_finite(shard) ? 1 : 0;
  MPI_Allreduce(MPI_IN_PLACE, &finite, 1, MPI_INT, MPI_MIN, comm);
  MPI_Allreduce(MPI_IN_PLACE, &worst_lse, 1, MPI_DOUBLE, MPI_MAX, comm);
  Errors errors;
  errors.rows = static_cast<std::int64_t>(positions.size());
  errors.output = std::sqrt(squares[0] / std::max(squares[1], 1.0));
  errors.lse = worst_lse;
  errors.largest_score = largest;
  errors.finite = finite != 0;
  return errors;
}

double rounding_bound(double unit, std::int64_t head_dim, std::int64_t keys, double largest_score) {
  const double rounding = 16 + std::sqrt(static_cast<double>(head_dim)) +
                          std::log2(static_cast<double>(std::max<std::int64_t>(keys, 1)));
  return unit * rounding * std::max(1.0, largest_score / 8);
}

template <class T>
Bounds error_bounds(std::int64_t head_dim, std::int64_t keys, double largest_score) {
  constexpr double kUnit = std::numeric_limits<Accumulator<T>>::epsilon() / 2;
  constexpr double kStored = std::is_same_v<T, Accumulator<T>> ? 0.0 : 0x1p-7;  // four roundings to bf16
  constexpr double kGradients = 4;
  const double computed = rounding_bound(kUnit, head_dim, keys, largest_score);
  return {kStored + computed, computed, kStored + kGradients * computed};
}

#define LONGSEQ_INSTANTIATE(T)                                                                 \
  template Errors recompute<T>(MPI_Comm, const Pattern&, const PositionTerms<Accumulator<T>>&, \
                               const ShardOutput<T>&);                                         \
  template Bounds error_bounds<T>(std::int64_t, std::int64_t, double);
LONGSEQ_INSTANTIATE(float)
LONGSEQ_INSTANTIATE(double)
LONGSEQ_INSTANTIATE(BFloat16)
#undef LONGSEQ_INSTANTIATE

}  // namespace longseq
