// Functions of one argument and their pullbacks, by the spec's formulas.

template <typename A> __device__ A sign_of(A x) { return x > 0 ? (A)1 : x < 0 ? (A)-1 : x; }  // of 0 and NaN themselves
template <typename A> __device__ A sigmoid_of(A x) {
  A e = exp(x < 0 ? x : -x);
  return (x < 0 ? e : (A)1) / (1 + e);
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
FUNCTION(sqrt_, sqrt(x), g / 2 / sqrt(x));
FUNCTION(square, x * x, g * 2 * x);
FUNCTION(reciprocal, 1 / x, -g * (1 / x) * (1 / x));
FUNCTION(sin_, sin(x), g * cos(x));
FUNCTION(cos_, cos(x), -g * sin(x));
FUNCTION(tanh_, tanh(x), g * (1 - tanh(x) * tanh(x)));
FUNCTION(sigmoid, sigmoid_of(x), g * sigmoid_of(x) * (1 - sigmoid_of(x)));
FUNCTION(relu, x <= 0 ? (A)0 : x, x > 0 ? g : x == 0 ? g / 2 : (A)0);
FUNCTION(silu, x * sigmoid_of(x), g * sigmoid_of(x) * (1 + x * (1 - sigmoid_of(x))));
FUNCTION(softplus, (x <= 0 ? (A)0 : x) + log1p(exp(x < 0 ? x : -x)), g * sigmoid_of(x));

#define PI 3.14159265358979323846
FUNCTION(gelu, x * ((1 + erf(x / sqrt((A)2))) / 2),
         g * ((1 + erf(x / sqrt((A)2))) / 2 + x * exp(-x * x / 2) / sqrt((A)(2 * PI))));

struct gelu_tanh {
  template <typename A> __device__ static A inner(A x) { return tanh(sqrt((A)(2 / PI)) * (x + x * x * x * (A)0.044715)); }
  template <typename A> __device__ static A value(A x) { return x * (1 + inner(x)) / 2; }
  template <typename A> __device__ static A pull(A x, A g) {
    A t = inner(x), flat = 1 - t * t, c = sqrt((A)(2 / PI));
    return g * (1 + t + (flat == 0 ? (A)0 : x * flat * c * (1 + x * x * (A)(3 * 0.044715)))) / 2;
  }
};
