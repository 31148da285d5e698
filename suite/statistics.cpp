#include "suite/statistics.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/math/distributions/binomial.hpp>
#include <cmath>
#include <numeric>
#include <stdexcept>
#include <vector>

namespace longseq {
namespace {

std::vector<double> sorted(std::span<const double> samples) {
  if (samples.empty()) throw std::invalid_argument("statistics of 0 samples: expected at least 1");
  std::vector<double> order(samples.begin(), samples.end());
  std::sort(order.begin(), order.end());
  return order;
}

}  // namespace

double median(std::span<const double> samples) {
  return quantile(samples, 0.5);
}

double quantile(std::span<const double> samples, double p) {
  if (!(p >= 0 && p <= 1)) throw std::invalid_argument(fmt::format("quantile {}: expected 0 to 1", p));
  const std::vector<double> order = sorted(samples);
  const double place = p * static_cast<double>(order.size() - 1);
  const auto below = static_cast<std::size_t>(place);
  const auto above = std::min(below + 1, order.size() - 1);
  return std::lerp(order[below], order[above], place - static_cast<double>(below));
}

std::optional<MedianRanks> median_ranks(std::int64_t n, double confidence) {
  if (!(confidence > 0 && confidence < 1)) {
    throw std::invalid_argument(
        fmt::format("confidence {}: expected more than 0 and less than 1", confidence));
  }
  if (n < 1) return std::nullopt;
  // The number of samples below the median is binomial (n, 1/2): the median lies below order statistic
  // number `low` with probability cdf(low - 1), and above number n + 1 - low with the same.
  using boost::math::policies::discrete_quantile;
  using boost::math::policies::integer_round_down;
  using Policy = boost::math::policies::policy<discrete_quantile<integer_round_down>>;
  const boost::math::binomial_distribution<double, Policy> below(static_cast<double>(n), 0.5);
  const double tail = (1 - confidence) / 2;
  if (cdf(below, 0) > tail) return std::nullopt;
  const double most_below = quantile(below, tail);
  const auto low = static_cast<std::int64_t>(most_below) + 1;
  return MedianRanks{low, n + 1 - low, 1 - 2 * cdf(below, most_below)};
}

std::optional<MedianInterval> median_interval(std::span<const double> samples, double confidence) {
  const auto ranks = median_ranks(std::ssize(samples), confidence);
  if (!ranks) return std::nullopt;
  const std::vector<double> order = sorted(samples);
  return MedianInterval{order[static_cast<std::size_t>(ranks->low - 1)],
                        order[static_cast<std::size_t>(ranks->high - 1)], ranks->coverage};
}

double relative_half_width(const MedianInterval& interval, double median) {
  return std::max(interval.high - median, median - interval.low) / median;
}

double imbalance(std::span<const double> per_rank) {
  if (per_rank.empty()) throw std::invalid_argument("imbalance of 0 ranks: expected at least 1");
  const double sum = std::accumulate(per_rank.begin(), per_rank.end(), 0.0);
  const double largest = *std::max_element(per_rank.begin(), per_rank.end());
  return sum == 0 ? 1 : largest * static_cast<double>(per_rank.size()) / sum;
}

}  // namespace longseq
