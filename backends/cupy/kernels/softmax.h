// softmax and its kin without loss of digits, of rows (softmax.cu) and of columns (columns.cu).
//
// The forward pass leaves of each row its maximum, or 0 where that is infinite, and the sum of exp(x - maximum) over all its
// elements but one, which is a maximum and has exp(x - maximum) = 1. The backward pass computes p = exp(x - maximum) / (1 + sum)
// again from x, which costs no traffic and loses no digits. Nor does 1 - p, which at a maximum is sum / (1 + sum); elsewhere p
// is at most 1/2. So of a row that one element dominates, what the others add is kept, though 1 + sum may be 1.

enum { SOFTMAX, LOG_SOFTMAX };

// p of a maximum, and q = 1 - p. Where the sum is infinite they are 0 and 1.
template <typename A> struct TopShare {
  A p, q;

  __device__ static TopShare of(A others) {
    const A p = 1 / (1 + others);
    return {p, others < 1 ? others * p : 1 - p};
  }
  __device__ A one_minus(A p_of_any) const { return p_of_any == p ? q : 1 - p_of_any; }
};

// The two sums that the gradient of a row needs.
//
// softmax: dx = p (g - sum(p g)). `tops` is the sum of g over the maxima, and `rest` that of p g over all others.
// log_softmax: dx = g - p sum(g). `tops` is the sum of g, and `rest` what its roundings have lost (Knuth's TwoSum, 1969), so that
// g at a maximum can be taken from it. For x is not read then.
template <typename A> struct GSums {
  A tops, rest;

  __device__ A finite_rest() const { return isfinite(tops) ? rest : (A)0; }
};
template <int WHAT> struct GSum {
  template <typename A> __device__ static GSums<A> of(GSums<A> x, GSums<A> y) {
    const A sum = x.tops + y.tops, added = sum - x.tops;
    const A lost = WHAT == SOFTMAX ? (A)0 : (x.tops - (sum - added)) + (y.tops - added);
    return {sum, x.rest + y.rest + lost};
  }
  template <typename S> __device__ static S nothing() { return {0, 0}; }
};
template <typename A> __device__ GSums<A> from_lane(GSums<A> x, int lane) {
  return {from_lane(x.tops, lane), from_lane(x.rest, lane)};
}

template <int WHAT, typename A> __device__ void add(GSums<A>& sums, TopShare<A> top, A p, A g) {
  const bool counts = WHAT == LOG_SOFTMAX || p == top.p;
  const GSums<A> more = {counts ? g : (A)0, counts ? (A)0 : p * g};
  sums = GSum<WHAT>::of(sums, more);
}

// dx. At a maximum g - p g is q g, and tops - g is 0 if there is no other.
template <int WHAT, typename A> __device__ A pull_softmax(TopShare<A> top, GSums<A> sums, A p, A g) {
  const bool is_top = p == top.p;
  const A own = is_top ? top.q * g : g, tops = is_top ? sums.tops - g : sums.tops;
  return WHAT == SOFTMAX ? p * (own - (sums.rest + top.p * tops)) : own - p * (sums.rest + tops);
}
