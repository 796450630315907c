// Functions of one argument and of two, and their pullbacks, by the spec's formulas.

template <typename A> __device__ A sign_of(A x) { return x > 0 ? (A)1 : x < 0 ? (A)-1 : x; }  // of 0 and NaN themselves
template <typename A> __device__ A to_winner(bool wins, bool tie, A g) { return wins ? g : (tie ? (A)0.5 : (A)0) * (tie ? g : (A)0); }
template <typename A> __device__ A sigmoid_of(A x) {
  A e = exp(x < 0 ? x : -x);
  return ratio(x < 0 ? e : (A)1, 1 + e);
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
FUNCTION(expm1_, expm1(x), g * (expm1(x) + 1));
FUNCTION(log_, log(x), g / x);
FUNCTION(log1p_, log1p(x), g / (1 + x));
FUNCTION(sqrt_, sqrt(x), g / 2 * rsqrt(x));
FUNCTION(square, x * x, g * 2 * x);
FUNCTION(reciprocal, 1 / x, -g * (1 / x) * (1 / x));
FUNCTION(sin_, sin(x), g * cos(x));
FUNCTION(cos_, cos(x), -g * sin(x));
FUNCTION(tanh_, tanh(x), g * (1 - tanh(x) * tanh(x)));
FUNCTION(sigmoid, sigmoid_of(x), g * sigmoid_of(x) * (1 - sigmoid_of(x)));
FUNCTION(relu, x <= 0 ? (A)0 : x, to_winner(x > 0, x == 0, g));
FUNCTION(silu, x * sigmoid_of(x), g * sigmoid_of(x) * (1 + x * (1 - sigmoid_of(x))));
FUNCTION(softplus, (x <= 0 ? (A)0 : x) + log1p(exp(x < 0 ? x : -x)), g * sigmoid_of(x));

#define SQRT_HALF 0.70710678118654752440
#define SQRT_TWO_OVER_PI 0.79788456080286535588
FUNCTION(gelu, x * ((1 + erf(x * (A)SQRT_HALF)) / 2),
         g * ((1 + erf(x * (A)SQRT_HALF)) / 2 + x * exp(-x * x / 2) * (A)(SQRT_TWO_OVER_PI / 2)));

struct gelu_tanh {
  template <typename A> __device__ static A inner(A x) { return tanh((A)SQRT_TWO_OVER_PI * (x + x * x * x * (A)0.044715)); }
  template <typename A> __device__ static A value(A x) { return x * (1 + inner(x)) / 2; }
  template <typename A> __device__ static A pull(A x, A g) {
    A t = inner(x), flat = 1 - t * t, c = (A)SQRT_TWO_OVER_PI;
    return g * (1 + t + (flat == 0 ? (A)0 : x * flat * c * (1 + x * x * (A)(3 * 0.044715)))) / 2;
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
