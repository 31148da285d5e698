#include "suite/verify_gradients.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "suite/verify_sample.h"
#include "suite/verify_score.h"

namespace longseq {
namespace {

using Numbers = std::vector<double>;

/// Rows of the reference, and the terms with delta that cancel in them, each dense.
struct Reference {
  Numbers rows;
  Numbers cancelled;
};

template <class T>
class GradientReference {
 public:
  GradientReference(MPI_Comm comm, const Pattern& pattern, const PositionTerms<Accumulator<T>>& terms,
                    const ShardOutput<T>& shard, const ShardGradients<T>& gradients)
      : comm_(comm), pattern_(pattern), terms_(terms), shard_(shard), gradients_(gradients) {
    for (const Run& run : shard.positions) {
      for (std::int64_t t = 0; t < run.count; ++t) positions_.push_back(run.at(t));
    }
  }

  /// dq of one position, (heads, head_dim), on all ranks.
  Reference dq(std::int64_t b, std::int64_t position, std::int64_t own_row) const {
    const Numbers q = everywhere(shard_.q, b, own_row), d_o = everywhere(gradients_.d_o, b, own_row);
    const std::int64_t heads = shard_.q.shape.heads, size = 2 + 2 * dim_;
    Numbers highest(count(heads), -std::numeric_limits<double>::infinity());
    std::vector<std::int64_t> visible;
    Numbers scores;  // (visible, heads)
    for (std::int64_t t = 0; t < rows(); ++t) {
      if (!sees(pattern_, position, position_of(t))) continue;
      visible.push_back(t);
      for (std::int64_t h = 0; h < heads; ++h) {
        scores.push_back(exact_score(terms_, h, position - position_of(t), &q[count(h * dim_)],
                                     shard_.k.row(b, kv_head(h), t), dim_));
        highest[count(h)] = std::max(highest[count(h)], scores.back());
      }
    }
    MPI_Allreduce(MPI_IN_PLACE, highest.data(), static_cast<int>(heads), MPI_DOUBLE, MPI_MAX, comm_);
    // Σ w, Σ w·(do·v), Σ w·k and Σ w·(do·v)·k, k with r, of which dq is made: δ = Σ w·(do·v) / Σ w.
    Numbers sums(count(heads * size), 0.0);
    const double* of_pair = scores.data();
    for (const std::int64_t t : visible) {
      for (std::int64_t h = 0; h < heads; ++h) {
        const double weight = std::exp(*of_pair++ - highest[count(h)]);
        const T* k = shard_.k.row(b, kv_head(h), t);
        const double d_weight = weight * dot(shard_.v.row(b, kv_head(h), t), &d_o[count(h * dim_)]);
        double* own = &sums[count(h * size)];
        own[0] += weight;
        own[1] += d_weight;
        for (std::int64_t d = 0; d < dim_; ++d) {
          const double key = static_cast<double>(k[d]) + beside_key(h, position - position_of(t), d);
          own[2 + d] += weight * key;
          own[2 + dim_ + d] += d_weight * key;
        }
      }
    }
    sum_over_ranks(comm_, sums);
    Reference reference;
    for (std::int64_t h = 0; h < heads; ++h) {
      const double* own = &sums[count(h * size)];
      for (std::int64_t d = 0; d < dim_; ++d) {
        const double part = own[0] == 0 ? 0 : scale_ * own[2 + dim_ + d] / own[0];
        const double cancelled = own[0] == 0 ? 0 : scale_ * own[1] / own[0] * own[2 + d] / own[0];
        reference.rows.push_back(part - cancelled);
        reference.cancelled.push_back(cancelled);
      }
    }
    return reference;
  }

  /// dk and then dv of one position, (2, kv_heads, head_dim), on all ranks.
  Reference dk_dv(std::int64_t b, std::int64_t position, std::int64_t own_row) const {
    const Numbers k = everywhere(shard_.k, b, own_row), v = everywhere(shard_.v, b, own_row);
    const auto half = static_cast<std::int64_t>(k.size());
    Numbers sums(count(4 * half), 0.0);  // dk, dv, and what cancels in them: nothing in dv
    for (std::int64_t t = 0; t < rows(); ++t) {
      if (!sees(pattern_, position_of(t), position)) continue;
      for (std::int64_t h = 0; h < shard_.q.shape.heads; ++h) {
        const T* q = shard_.q.row(b, h, t);
        const T* o = shard_.o.row(b, h, t);
        const T* d_o = gradients_.d_o.row(b, h, t);
        const std::int64_t at = kv_head(h) * dim_;
        const auto lse = static_cast<double>(*shard_.lse.row(b, h, t));
        const double weight =
            std::exp(exact_score(terms_, h, position_of(t) - position, q, &k[count(at)], dim_) - lse);
        double delta = 0;
        for (std::int64_t d = 0; d < dim_; ++d)
          delta += static_cast<double>(o[d]) * static_cast<double>(d_o[d]);
        const double cancelled = scale_ * weight * delta;
        const double d_score = scale_ * weight * dot(d_o, &v[count(at)]) - cancelled;
        for (std::int64_t d = 0; d < dim_; ++d) {
          const double query = static_cast<double>(q[d]) + beside_query(h, d);
          sums[count(at + d)] += d_score * query;
          sums[count(half + at + d)] += weight * static_cast<double>(d_o[d]);
          sums[count(2 * half + at + d)] += cancelled * query;
        }
      }
    }
    sum_over_ranks(comm_, sums);
    return {Numbers(sums.begin(), sums.begin() + 2 * half), Numbers(sums.begin() + 2 * half, sums.end())};
  }

 private:
  static std::size_t count(std::int64_t value) { return static_cast<std::size_t>(value); }
  std::int64_t rows() const { return static_cast<std::int64_t>(positions_.size()); }
  std::int64_t position_of(std::int64_t row) const { return positions_[count(row)]; }
  std::int64_t kv_head(std::int64_t head) const { return head * shard_.k.shape.heads / shard_.q.shape.heads; }

  double dot(const T* row, const double* other) const {
    double sum = 0;
    for (std::int64_t d = 0; d < dim_; ++d) sum += static_cast<double>(row[d]) * other[d];
    return sum;
  }

  /// A row of all heads, from the rank that has it (own_row >= 0) to all.
  Numbers everywhere(TensorView<const T> view, std::int64_t b, std::int64_t own_row) const {
    Numbers numbers(count(view.shape.heads * dim_), 0.0);
    for (std::int64_t h = 0; own_row >= 0 && h < view.shape.heads; ++h) {
      const T* row = view.row(b, h, own_row);
      std::transform(row, row + dim_, numbers.begin() + h * dim_,
                     [](T value) { return static_cast<double>(value); });
    }
    sum_over_ranks(comm_, numbers);
    return numbers;
  }

  /// What a query is multiplied with beside k, and a key beside q; 0 without relative keys.
  double beside_key(std::int64_t head, std::int64_t distance, std::int64_t d) const {
    if (!terms_.relative.present()) return 0;
    return static_cast<double>(relative_key(terms_.relative, head, distance)[d]);
  }
  double beside_query(std::int64_t head, std::int64_t d) const {
    if (!terms_.relative.present()) return 0;
    return static_cast<double>(terms_.relative.content_bias[head * dim_ + d]);
  }

  MPI_Comm comm_;
  const Pattern& pattern_;
  const PositionTerms<Accumulator<T>>& terms_;
  const ShardOutput<T>& shard_;
  const ShardGradients<T>& gradients_;
  std::vector<std::int64_t> positions_;
  std::int64_t dim_ = shard_.q.shape.head_dim;
  double scale_ = 1.0 / std::sqrt(static_cast<double>(dim_));
};

template <class A>
bool all_finite(TensorView<A> view) {
  for (std::int64_t b = 0; b < view.shape.batch; ++b) {
    for (std::int64_t h = 0; h < view.shape.heads; ++h) {
      for (std::int64_t t = 0; t < view.shape.tokens; ++t) {
        const A* row = view.row(b, h, t);
        if (!std::all_of(row, row + view.shape.head_dim, [](A value) { return std::isfinite(value); }))
          return false;
      }
    }
  }
  return true;
}

/// The squares of the rows' relative errors, summed.
struct Squares {
  double sum = 0, rows = 0;

  /// One position's rows, from row `first` of the reference on.
  template <class A>
  void add(TensorView<A> got, std::int64_t b, std::int64_t row, const Reference& expected,
           std::int64_t first) {
    auto at = static_cast<std::size_t>(first * got.shape.head_dim);
    for (std::int64_t h = 0; h < got.shape.heads; ++h) {
      double difference = 0, own = 0, cancelled = 0;
      for (std::int64_t d = 0; d < got.shape.head_dim; ++d, ++at) {
        difference += std::pow(static_cast<double>(got.row(b, h, row)[d]) - expected.rows[at], 2);
        own += expected.rows[at] * expected.rows[at];
        cancelled += expected.cancelled[at] * expected.cancelled[at];
      }
      const double size = std::max(own, cancelled);
      sum += size > 0 ? difference / size : difference;
      rows += 1;
    }
  }
  double error(MPI_Comm comm) const {
    Numbers sums{sum, rows};
    sum_over_ranks(comm, sums);
    return std::sqrt(sums[0] / std::max(sums[1], 1.0));
  }
};

}  // namespace

template <class T>
GradientErrors recompute_gradients(MPI_Comm comm, const Pattern& pattern,
                                   const PositionTerms<Accumulator<T>>& terms, const ShardOutput<T>& shard,
                                   const ShardGradients<T>& gradients) {
  const Shape& shape = shard.q.shape;
  int ranks = 1;
  MPI_Comm_size(comm, &ranks);
  constexpr std::int64_t kWorkOfForward = 4;  // dk and dv walk all queries again
  const std::vector<std::int64_t> positions =
      sample(pattern.seq_len, shape.batch * shape.heads * kWorkOfForward, shape.head_dim, ranks);
  const GradientReference<T> reference(comm, pattern, terms, shard, gradients);
  Squares dq, dk, dv;
  for (std::int64_t b = 0; b < shape.batch; ++b) {
    for (const std::int64_t position : positions) {
      const std::int64_t row = row_of(shard.positions, position);
      const Reference of_query = reference.dq(b, position, row), of_key = reference.dk_dv(b, position, row);
      if (row < 0) continue;
      dq.add(gradients.dq, b, row, of_query, 0);
      dk.add(gradients.dk, b, row, of_key, 0);
      dv.add(gradients.dv, b, row, of_key, shard.k.shape.heads);
    }
  }
  int finite = all_finite(gradients.dq) && all_finite(gradients.dk) && all_finite(gradients.dv) ? 1 : 0;
  MPI_Allreduce(MPI_IN_PLACE, &finite, 1, MPI_INT, MPI_MIN, comm);
  return {dq.error(comm), dk.error(comm), dv.error(comm), finite != 0};
}

#define LONGSEQ_INSTANTIATE(T)                                                         \
  template GradientErrors recompute_gradients<T>(MPI_Comm, const Pattern&,             \
                                                 const PositionTerms<Accumulator<T>>&, \
                                                 const ShardOutput<T>&, const ShardGradients<T>&);
LONGSEQ_INSTANTIATE(float)
LONGSEQ_INSTANTIATE(double)
LONGSEQ_INSTANTIATE(BFloat16)
#undef LONGSEQ_INSTANTIATE

}  // namespace longseq
