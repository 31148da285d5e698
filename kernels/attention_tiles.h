// The inside of the forward engine: what one task computes, for one head and up to kTileRows queries.
// Not for use outside kernels/.
#pragma once

#include <cstdint>
#include <type_traits>

namespace longseq::detail {

inline constexpr double kLog2E = 1.44269504088896340736;  // exponents are kept to the base 2
inline constexpr std::int64_t kTileRows = 64;             // queries of a tile: the lanes of its vectors
inline constexpr std::int64_t kTileKeys = 96;             // keys between two updates of the running maximum
inline constexpr std::int64_t kRowsAtOnce = 6;  // keys (scores) or dimensions (values) held in registers

template <class T>
using Index = std::conditional_t<sizeof(T) == 4, std::int32_t, std::int64_t>;

/// One tile's queries and streaming state, transposed so that queries are lanes. All arrays are aligned to 64
/// bytes; rows past the last query are zero.
template <class T>
struct QueryTile {
  T* queries;         // [head_dim][kTileRows]
  T* outputs;         // [head_dim][kTileRows]
  T* maximum;         // [kTileRows]
  T* sum;             // [kTileRows]
  std::int64_t rows;  // queries that are there, 1..kTileRows
  std::int64_t head_dim;
  T score_scale;               // c · log2 e
  Index<T>* visible_begin[2];  // [kTileRows] each: the two intervals of visible rows of the key block
  Index<T>* visible_end[2];
};

/// Keys that a tile takes in: rows of head_dim contiguous values.
template <class T>
struct KeyRows {
  const T* k;
  const T* v;
  std::int64_t k_stride;
  std::int64_t v_stride;
  std::int64_t begin;  // rows [begin, end) of the key block, at most kTileKeys
  std::int64_t end;
  bool masked;  // some query does not see some of these keys
};

/// The distance bias of one head for one key block: lane t at key row j looks up query_position[t] −
/// key_start − j·key_stride, held within ±reach.
template <class T>
struct TileBias {
  const T* values = nullptr;  // 2·reach + 1 values of this head; null: no bias
  Index<T> reach = 0;
  const Index<T>* query_position = nullptr;  // [kTileRows], relative to the block's first key
  Index<T> key_stride = 1;
};

/// lanes[d·kTileRows + t] = rows[t·stride + d] for t < count, d < head_dim; lanes from count on become zero.
void rows_to_lanes(const float* rows, std::int64_t stride, std::int64_t count, std::int64_t head_dim,
                   float* lanes);
void rows_to_lanes(const double* rows, std::int64_t stride, std::int64_t count, std::int64_t head_dim,
                   double* lanes);

/// rows[t·stride + d] = lanes[d·kTileRows + t] for t < count, d < head_dim.
void lanes_to_rows(const float* lanes, std::int64_t count, std::int64_t head_dim, float* rows,
                   std::int64_t stride);
void lanes_to_rows(const double* lanes, std::int64_t count, std::int64_t head_dim, double* rows,
                   std::int64_t stride);

/// Takes key rows into the tile's state. `scores` is scratch, [kTileKeys][kTileRows].
void attend_tile(const QueryTile<float>& tile, const KeyRows<float>& keys, const TileBias<float>& bias,
                 float* scores);
void attend_tile(const QueryTile<double>& tile, const KeyRows<double>& keys, const TileBias<double>& bias,
                 double* scores);

}  // namespace longseq::detail
