// Functions of one argument and of two, and their pullbacks, by the spec's formulas.
//
// None subtracts what is nearly equal: 1 - tanh(x)^2, for one, would keep no digit of tanh's slope beyond 9 in float32.

template <typename A> __device__ A sign_of(A x) { return x > 0 ? (A)1 : x < 0 ? (A)-1 : x; }  // of 0 and NaN themselves
template <typename A> __device__ A to_winner(bool wins, bool tie, A g) { return wins ? g : (tie ? (A)0.5 : (A)0) * (tie ? g : (A)0); }
template <typename A> __device__ A sigmoid_of(A x) {
  A e = exp(x < 0 ? x : -x);
  return ratio(x < 0 ? e : (A)1, 1 + e);
}
// sigmoid'(x) = sigmoid(x) sigmoid(-x), and tanh'(x) = 4 sigmoid'(2 x).
template <typename A> __device__ A slope_of_sigmoid(A x) {
  A e = exp(x < 0 ? x : -x);
  return ratio(e, (1 + e) * (1 + e));
}

// A function: its value at x, and what the cotangent g pulls back to.
#define FUNCTION(name, VALUE, PULLED)                                         \
  struct name {                                                               \
    template <typename A> __device__ static A value(A x) { return VALUE; }    \
    template <typename A> __device__ static A pull(A x, A g) { return PULLED; } \
  }

FUNCTION(negative, -x, -g);
FUNCTION(abs_, x < 0 ? -x : x + 0, g * sign_of(x));
FUNCTION(exp_, exp(x), g * exp(x));
FUNCTION(expm1_, expm1(x), g * exp(x));
FUNCTION(log_, log(x), g / x);
FUNCTION(log1p_, log1p(x), g / (1 + x));
FUNCTION(sqrt_, sqrt(x), g / 2 * rsqrt(x));
FUNCTION(square, x * x, g * 2 * x);
FUNCTION(reciprocal, 1 / x, -g * (1 / x) * (1 / x));
FUNCTION(sin_, sin(x), g * cos(x));
FUNCTION(cos_, cos(x), -g * sin(x));
FUNCTION(tanh_, tanh(x), g * (4 * slope_of_sigmoid(2 * x)));
FUNCTION(sigmoid, sigmoid_of(x), g * slope_of_sigmoid(x));
FUNCTION(relu, x <= 0 ? (A)0 : x, to_winner(x > 0, x == 0, g));
FUNCTION(silu, x * sigmoid_of(x), g * (sigmoid_of(x) + x * slope_of_sigmoid(x)));
FUNCTION(softplus, (x <= 0 ? (A)0 : x) + log1p(exp(x < 0 ? x : -x)), g * sigmoid_of(x));

#define SQRT_HALF 0.70710678118654752440
#define SQRT_TWO_OVER_PI 0.79788456080286535588
template <typename A> __device__ A normal_cdf(A x) { return erfc(x * (A)-SQRT_HALF) / 2; }
FUNCTION(gelu, x * normal_cdf(x), g * (normal_cdf(x) + x * exp(-x * x / 2) * (A)(SQRT_TWO_OVER_PI / 2)));

// (1 + tanh(u)) / 2 = sigmoid(2 u), with 2 u = c (x + 0.044715 x^3).
struct gelu_tanh {
  template <typename A> __device__ static A inner(A x) { return (A)(2 * SQRT_TWO_OVER_PI) * (x + x * x * x * (A)0.044715); }
  template <typename A> __device__ static A value(A x) { return x * sigmoid_of(inner(x)); }
  template <typename A> __device__ static A pull(A x, A g) {
    A slope = slope_of_sigmoid(inner(x)), c = (A)(2 * SQRT_TWO_OVER_PI);
    return g * (sigmoid_of(inner(x)) + (slope == 0 ? (A)0 : x * slope * c * (1 + x * x * (A)(3 * 0.044715))));
  }
};

// A function of two: its value at x and y, and what the cotangent g pulls back to, for either.
#define PAIR(name, VALUE, TO_X, TO_Y)                                                   \
  struct name {                                                                         \
    template <typename A> __device__ static A value(A x, A y) { return VALUE; }         \
    template <typename A> __device__ static A pull_first(A x, A y, A g) { return TO_X; }  \
    template <typename A> __device__ static A pull_second(A x, A y, A g) { return TO_Y; } \
  }

PAIR(sum_of, x + y, g, g);
PAIR(difference, x - y, g, -g);
PAIR(product, x * y, g * y, g * x);
PAIR(quotient, x / y, g / y, -g / y * (x / y));
PAIR(power, pow(x, y), y == 0 ? g * y / (x == 0 ? (A)1 : x) : g * y * pow(x, y - 1),
     x == 0 && y >= 0 ? (A)0 : g * pow(x, y) * log(x));
PAIR(larger, x > y || x != x ? x : y, to_winner(x > y, x == y, g), to_winner(y > x, x == y, g));
PAIR(smaller, x < y || x != x ? x : y, to_winner(x < y, x == y, g), to_winner(y < x, x == y, g));

// A function of one, of the sum of x and a bias.
template <typename F> struct biased {
  template <typename A> __device__ static A value(A x, A bias) { return F::value(x + bias); }
};
