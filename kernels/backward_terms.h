// The part of a backward task that position terms add: the gradients of a distance table and of relative
// keys. Not for use outside kernels/.
#pragma once

#include "kernels/backward_task.h"

namespace longseq::detail {

/// Elements that relative keys take of a thread's scratch, without their gradients.
std::int64_t relative_elements(std::int64_t head_dim);

/// Takes the memory that the call's position terms need.
template <class T>
void prepare_terms(const BackwardCall<T>& call, BackwardScratch<T>& scratch);

/// The tile's queries q become q + u, those of the relative keys q + v. They are of one head.
template <class T>
void add_query_biases(const BackwardCall<T>& call, const FoldedRows& queries, BackwardScratch<T>& scratch);

/// Fills scratch.d_scores with what relative keys add to q·k.
template <class T>
void score_relative(const BackwardCall<T>& call, Run query_positions, Run key_positions,
                    const FoldedRows& queries, const Piece& piece, BackwardScratch<T>& scratch);

/// Adds the piece's dS to the task's gradient of the distance table.
template <class T>
void add_bias_gradient(const BackwardCall<T>& call, Run key_positions, const Piece& piece,
                       BackwardScratch<T>& scratch);

/// Adds the piece's dS to the tile's dq of relative keys and to the task's gradients of these.
template <class T>
void add_relative_gradients(const BackwardCall<T>& call, Run query_positions, Run key_positions,
                            const FoldedRows& queries, const Piece& piece, BackwardScratch<T>& scratch);

/// Sums up the task's gradients of u and v, and joins both parts of the tile's dq.
template <class T>
void join_query_gradients(const BackwardCall<T>& call, const FoldedRows& queries,
                          BackwardScratch<T>& scratch);

/// Adds what the task has summed to the call's gradients of position terms, when it is the task's turn.
template <class T>
void add_term_gradients(BackwardCall<T>& call, const BackwardTask& task, BackwardScratch<T>& scratch,
                        const Poll& poll);

}  // namespace longseq::detail
