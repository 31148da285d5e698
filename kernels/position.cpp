#include "kernels/position.h"

#include <fmt/format.h>
#include <tbb/parallel_for.h>

#include <bit>
#include <cmath>
#include <cstdlib>
#include <stdexcept>
#include <string_view>

namespace longseq {
namespace {

std::vector<double> frequencies(std::int64_t width, std::string_view name) {
  if (width % 2 != 0)
    throw std::invalid_argument(
        fmt::format("{} is {}; expected an even number: it holds pairs", name, width));
  std::vector<double> result;
  for (std::int64_t k = 0; k < width / 2; ++k) {
    result.push_back(std::pow(10000.0, -2.0 * static_cast<double>(k) / static_cast<double>(width)));
  }
  return result;
}

double slope(std::int64_t heads, std::int64_t head) {
  const auto power = static_cast<std::int64_t>(std::bit_floor(static_cast<std::uint64_t>(heads)));
  const auto of_power = [](std::int64_t n, std::int64_t h) {
    return std::exp2(-8.0 * static_cast<double>(h + 1) / static_cast<double>(n));
  };
  return head < power ? of_power(power, head) : of_power(2 * power, 2 * (head - power));
}

/// Rotates by `direction` times the positions' angles.
template <class T>
void rotate(TensorView<T> x, Run positions, double direction) {
  const std::vector<double> frequency = frequencies(x.shape.head_dim, "head-dim of rotary positions");
  tbb::parallel_for(std::int64_t{0}, x.shape.tokens, [&](std::int64_t t) {
    const auto position = direction * static_cast<double>(positions.at(t));
    for (std::size_t k = 0; k < frequency.size(); ++k) {
      const double cosine = std::cos(position * frequency[k]), sine = std::sin(position * frequency[k]);
      for (std::int64_t b = 0; b < x.shape.batch; ++b) {
        for (std::int64_t h = 0; h < x.shape.heads; ++h) {
          T* pair = x.row(b, h, t) + 2 * k;
          const auto first = static_cast<double>(pair[0]), second = static_cast<double>(pair[1]);
          pair[0] = static_cast<T>(first * cosine - second * sine);
          pair[1] = static_cast<T>(first * sine + second * cosine);
        }
      }
    }
  });
}

void expect_enough_digits(std::int64_t digits, std::int64_t reach) {
  const auto needed = static_cast<std::int64_t>(std::bit_width(static_cast<std::uint64_t>(reach)));
  if (digits >= needed) return;
  throw std::invalid_argument(
      fmt::format("the distance encoder has {} digits; expected at least {} for distances up to {}", digits,
                  needed, reach));
}

}  // namespace

template <class T>
void rotate_by_position(TensorView<T> x, Run positions) {
  rotate(x, positions, 1.0);
}

template <class T>
void rotate_gradient_by_position(TensorView<T> gradient, Run positions) {
  rotate(gradient, positions, -1.0);
}

template <class T>
void add_sinusoid(TensorView<T> x, Run positions) {
  const std::vector<double> frequency = frequencies(x.shape.head_dim, "width of sinusoidal positions");
  tbb::parallel_for(std::int64_t{0}, x.shape.tokens, [&](std::int64_t t) {
    const auto position = static_cast<double>(positions.at(t));
    T* row = x.row(0, 0, t);
    for (std::size_t k = 0; k < frequency.size(); ++k) {
      row[k] += static_cast<T>(std::sin(position * frequency[k]));
      row[frequency.size() + k] += static_cast<T>(std::cos(position * frequency[k]));
    }
  });
}

template <class T>
std::vector<T> alibi_table(std::int64_t heads, std::int64_t reach) {
  std::vector<T> table;
  table.reserve(static_cast<std::size_t>(heads * (2 * reach + 1)));
  for (std::int64_t h = 0; h < heads; ++h) {
    for (std::int64_t distance = -reach; distance <= reach; ++distance) {
      table.push_back(static_cast<T>(-slope(heads, h) * static_cast<double>(std::abs(distance))));
    }
  }
  return table;
}

template <class T>
std::vector<T> elan_table(std::span<const T> w, std::int64_t heads, std::int64_t reach) {
  const std::int64_t digits = static_cast<std::int64_t>(w.size()) / heads;
  expect_enough_digits(digits, reach);
  std::vector<T> table(static_cast<std::size_t>(heads * (2 * reach + 1)), T{0});
  for (std::int64_t h = 0; h < heads; ++h) {
    for (std::int64_t distance = 0; distance <= reach; ++distance) {
      T& value = table[static_cast<std::size_t>(h * (2 * reach + 1) + reach + distance)];
      for (std::int64_t n = 0; n < digits; ++n) {
        if ((distance >> n & 1) != 0) value += w[static_cast<std::size_t>(h * digits + n)];
      }
    }
  }
  return table;
}

template <class T>
std::vector<T> elan_gradient(std::span<const T> d_table, std::int64_t heads, std::int64_t reach,
                             std::int64_t digits) {
  expect_enough_digits(digits, reach);
  std::vector<T> gradient(static_cast<std::size_t>(heads * digits), T{0});
  for (std::int64_t h = 0; h < heads; ++h) {
    for (std::int64_t n = 0; n < digits; ++n) {
      double sum = 0;
      for (std::int64_t distance = 0; distance <= reach; ++distance) {
        if ((distance >> n & 1) == 0) continue;
        sum += static_cast<double>(d_table[static_cast<std::size_t>(h * (2 * reach + 1) + reach + distance)]);
      }
      gradient[static_cast<std::size_t>(h * digits + n)] = static_cast<T>(sum);
    }
  }
  return gradient;
}

template void rotate_by_position<float>(TensorView<float>, Run);
template void rotate_by_position<double>(TensorView<double>, Run);
template void rotate_gradient_by_position<float>(TensorView<float>, Run);
template void rotate_gradient_by_position<double>(TensorView<double>, Run);
template void add_sinusoid<float>(TensorView<float>, Run);
template void add_sinusoid<double>(TensorView<double>, Run);
template std::vector<float> alibi_table<float>(std::int64_t, std::int64_t);
template std::vector<double> alibi_table<double>(std::int64_t, std::int64_t);
template std::vector<float> elan_table<float>(std::span<const float>, std::int64_t, std::int64_t);
template std::vector<double> elan_table<double>(std::span<const double>, std::int64_t, std::int64_t);
template std::vector<float> elan_gradient<float>(std::span<const float>, std::int64_t, std::int64_t,
                                                 std::int64_t);
template std::vector<double> elan_gradient<double>(std::span<const double>, std::int64_t, std::int64_t,
                                                   std::int64_t);

}  // namespace longseq
