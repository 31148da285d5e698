// Work on every row of a tensor, shared out among the threads of the caller's TBB arena.
#pragma once

#include <tbb/parallel_for.h>

#include <algorithm>

#include "kernels/tensor.h"

namespace longseq {

/// Calls work(b, h, tokens) for every batch entry, head and interval of at most `rows` tokens; calls run at
/// the same time.
template <class Work>
void parallel_row_blocks(const Shape& shape, std::int64_t rows, const Work& work) {
  const std::int64_t blocks = (shape.tokens + rows - 1) / rows;
  tbb::parallel_for(std::int64_t{0}, shape.batch * shape.heads * blocks, [&](std::int64_t task) {
    const std::int64_t head = task / blocks;
    const std::int64_t begin = task % blocks * rows;
    work(head / shape.heads, head % shape.heads, Interval{begin, std::min(begin + rows, shape.tokens)});
  });
}

/// Calls work(b, h, t) for every batch entry, head and token; calls run at the same time.
template <class Work>
void parallel_rows(const Shape& shape, const Work& work) {
  constexpr std::int64_t kRowsPerTask = 256;
  parallel_row_blocks(shape, kRowsPerTask, [&](std::int64_t b, std::int64_t h, Interval tokens) {
    for (std::int64_t t = tokens.begin; t < tokens.end; ++t) work(b, h, t);
  });
}

template <class T>
void set_to_zero(TensorView<T> tensor) {
  parallel_rows(tensor.shape, [&](std::int64_t b, std::int64_t h, std::int64_t t) {
    std::fill_n(tensor.row(b, h, t), tensor.shape.head_dim, T{});
  });
}

}  // namespace longseq
