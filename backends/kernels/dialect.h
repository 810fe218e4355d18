// The kernel dialect: the subset of OpenCL C 1.2 and CUDA C++ that kernels (*.k) are written in.
//
// The loader concatenates dialect_opencl.h or dialect_cuda.h, this file, and a kernel file, in this order; none of them
// includes anything. Everything is specialised with -D:
//   GROUP     work-items in a group, one-dimensional: a power of two; 1 is legal and has no barriers
//   VEC       floats in a vecf: 1, 4, 8 or 16 (16 or 8 on a CPU, 4 or 1 on a GPU)
//   BRIM_CPU  1 on a CPU device (OpenCL only); default 0
//   ALIGNED   1 where loadv and storev may assume indices and bases that are multiples of VEC elements (a kernel with
//             VEC > 4 gets accesses of 4 elements then); default 0: aligned to the element only
//   and what a kernel file asks for, dtypes by their names: -DT=f16
//
//  1. Entry:      KERNEL copy(CONST_BUFFER(src), BUFFER(dst), long_t n) { ... }
//     CONST_BUFFER(x) and BUFFER(x) are two arguments each: pointer (a memory object in OpenCL), 64-bit byte offset.
//     PTR(const float, x) is the typed address. Other arguments: int_t uint_t (32 bits), long_t ulong_t (64), float.
//     KERNEL_AT_ONCE(1024) instead of KERNEL: registers are to be few enough for as many work-items on a multiprocessor
//     (1024: 64 registers), for kernels that wait for memory and need no more. kernel_report shows what comes of it.
//  2. Place:      group_id(d), num_groups(d) for d = 0..2 (CUDA limits d = 1, 2 to 65535 groups); local_id() < GROUP.
//  3. Memory:     GLOBAL in pointer types; LOCAL declares a shared array at a kernel's outermost scope, LOCAL_PTR stands
//                 in pointers to it; CONSTANT for tables at file scope; BARRIER() orders local and global memory in the
//                 group, and every work-item of a group must reach it.
//  4. Functions:  DEVICE_FN; loops: UNROLL, NO_UNROLL, UNROLL_BY(4) before a for.
//  5. Storage:    ELEM(T) is the C type of an element in memory for T one of f32 f16 bf16 i32.
//                 load(T, p, i) and loadv(T, p, i) give a float or vecf (an int_t or veci for i32) from ELEMENT i on;
//                 store(T, p, i, x), storev(T, p, i, v) round to nearest even. f32, i32 and bf16 work in every address
//                 space in OpenCL; f16 in GLOBAL memory only. round_to(T, x), round_to_v(T, v): what a store followed
//                 by a load would give.
//  6. Scalars are s_NAME, vectors v_NAME, NAME one of: fma min max abs sqrt rsqrt exp exp2 log tanh erf floor pow
//     exp_negative (e^x for x <= 1; 0 below -87) exp2_in_range (2^x for x from -126 to 128 = inf; no NaN)
//     relu sigmoid silu gelu_tanh gelu_erf and silu_slope gelu_tanh_slope gelu_erf_slope (derivatives), is_finite (1 or
//     0), comparisons lt le gt ge eq ne, where(mask, if_true, if_false), as_int as_float (bits),
//     to_int (towards zero, undefined out of range), from_int; s_sin, s_cos.
//     min and max give NaN if either operand is NaN, as numpy's minimum and maximum do.
//     + - * / and unary - work on vecf, + - * on veci, with a scalar on either side too.
//     Vectors: splat(x), splat_i(x), lane_index() = 0, 1, 2 ...; vget(v, i), vset(v, i, x) (i a constant after
//     unrolling; v a variable), v_sum, v_hmax, v_hmin (fixed trees).
//     Masks: maskv from v_lt ... and vi_lt ... (integers); m_and, m_or, m_not, m_any, m_all, v_where, vi_where.
//  7. Group:      group_sum(x, scratch), group_max(x, scratch): scratch is LOCAL float[GROUP]; fixed tree, the result in
//                 every work-item, scratch free again on return.
//  8. Random:     philox4x32(c0, c1, c2, c3, k0, k1).x[0..3]; uniform01(bits).
//  9. Rows:       EACH_ROW(row, rows, per): the rows of this group, which takes `per` of them (1 on a GPU, more on a CPU
//                 device, where a launch has a cost for each group). Inside a row of n elements, which the work-items of a
//                 group share: EACH_VECTOR(i, n) its whole vectors, EACH_REST(i, n) the elements after them. For sums:
//                 EACH_BLOCK(b, n) and EACH_IN_BLOCK(i, b, n) are the same vectors in blocks; a sum for each block, and
//                 of the blocks' sums, has a smaller error and fewer additions that wait for each other.
//
// There are no float atomics, and no contraction: a product and a sum are fused only where fma is written.
// Precision: + - * / sqrt fma are IEEE; rsqrt is 1 / sqrt(x), the same bits everywhere. On a GPU the others are the
// accurate functions of the language (expf, never __expf). On a CPU device they are the polynomials below, with their
// error above them.

#ifndef BRIM_CPU
#define BRIM_CPU 0
#endif
#ifndef ALIGNED
#define ALIGNED 0
#endif

// ---- buffers and storage ---------------------------------------------------------------------------------------

#define BUFFER(name) GLOBAL uchar_t *name##_base, long_t name##_offset
#define CONST_BUFFER(name) const GLOBAL uchar_t *name##_base, long_t name##_offset
#define PTR(type, name) ((GLOBAL type *)(name##_base + name##_offset))

typedef float brim_elem_f32;
typedef ushort_t brim_elem_f16;
typedef ushort_t brim_elem_bf16;
typedef int_t brim_elem_i32;
#define s_round_f32(x) (x)
#define v_round_f32(x) (x)

#define ELEM_(T) brim_elem_##T
#define load_(T, p, i) load_##T(p, i)
#define store_(T, p, i, v) store_##T(p, i, v)
#define loadv_(T, p, i) loadv_##T(p, i)
#define storev_(T, p, i, v) storev_##T(p, i, v)
#define round_to_(T, x) s_round_##T(x)
#define round_to_v_(T, x) v_round_##T(x)
#define ELEM(T) ELEM_(T)
#define load(T, p, i) load_(T, p, i)
#define store(T, p, i, v) store_(T, p, i, v)
#define loadv(T, p, i) loadv_(T, p, i)
#define storev(T, p, i, v) storev_(T, p, i, v)
#define round_to(T, x) round_to_(T, x)
#define round_to_v(T, x) round_to_v_(T, x)

// ---- functions of scalars and vectors --------------------------------------------------------------------------

#define s_lt(a, b) ((a) < (b))
#define s_le(a, b) ((a) <= (b))
#define s_gt(a, b) ((a) > (b))
#define s_ge(a, b) ((a) >= (b))
#define s_eq(a, b) ((a) == (b))
#define s_ne(a, b) ((a) != (b))
DEVICE_FN float s_max(float a, float b) { return a > b || a != a ? a : b; }
DEVICE_FN float s_min(float a, float b) { return a < b || a != a ? a : b; }
DEVICE_FN vecf v_max(vecf a, vecf b) { return v_where(m_or(v_gt(a, b), v_ne(a, a)), a, b); }
DEVICE_FN vecf v_min(vecf a, vecf b) { return v_where(m_or(v_lt(a, b), v_ne(a, a)), a, b); }
DEVICE_FN float s_rsqrt(float x) { return 1.0f / s_sqrt(x); }
DEVICE_FN vecf v_rsqrt(vecf x) { return 1.0f / v_sqrt(x); }

#if VEC > 4 // OpenCL only, where a vector has halves
#define BRIM_GREATER(a, b) (((a) > (b)) | isnan(a) ? (a) : (b))
#define BRIM_LESS(a, b) (((a) < (b)) | isnan(a) ? (a) : (b))
#if VEC == 16
#define BRIM_IN_EIGHT(take) take(v.lo, v.hi)
#else
#define BRIM_IN_EIGHT(take) v
#endif
#define BRIM_ACROSS(name, take)                                                                    \
    DEVICE_FN float name(vecf v)                                                                   \
    {                                                                                              \
        float8 a = BRIM_IN_EIGHT(take);                                                            \
        float4 b = take(a.lo, a.hi);                                                               \
        float2 c = take(b.lo, b.hi);                                                               \
        return take(c.x, c.y);                                                                     \
    }
BRIM_ACROSS(v_hmax, BRIM_GREATER)
BRIM_ACROSS(v_hmin, BRIM_LESS)
#else
DEVICE_FN float v_hmax(vecf v)
{
    float r[VEC];
    UNROLL
    for (int i = 0; i < VEC; ++i) r[i] = vget(v, i);
    UNROLL
    for (int n = VEC / 2; n > 0; n /= 2) {
        UNROLL
        for (int i = 0; i < n; ++i) r[i] = s_max(r[i], r[i + n]);
    }
    return r[0];
}
DEVICE_FN float v_hmin(vecf v)
{
    float r[VEC];
    UNROLL
    for (int i = 0; i < VEC; ++i) r[i] = vget(v, i);
    UNROLL
    for (int n = VEC / 2; n > 0; n /= 2) {
        UNROLL
        for (int i = 0; i < n; ++i) r[i] = s_min(r[i], r[i + n]);
    }
    return r[0];
}
#endif

#if BRIM_CPU
// Branch-free polynomials, one text for scalars (P = s_) and vectors (P = v_), F and I their types. Fitted by weighted
// minimax over the reduced range, evaluated in f32 with fma.
// Largest error in ulp, measured on every 131st float (all exponents, both signs): exp 0.9, exp2 1.0, log 0.9, tanh 1.4,
// erf 1.1. Zeros, denormals, infinities and NaN give what the exact function rounds to.
//
// exp: x = n ln 2 + r, |r| <= ln 2 / 2. n is rounded by adding 1.5 * 2^23; the power of two is applied in two halves, so
// that a denormal result is rounded once. Below -104 0, above 88.72 inf, NaN stays.
// exp2: the same without the reduction.
// exp_negative, exp2_in_range: the same polynomials and errors, but the power of two in one step. In exp2_in_range it is
// added to the exponent's bits, which may make a number of a NaN: what uses it must have x in its result by another way.
// log: x = 2^n m, m in [sqrt(1/2), sqrt(2)); denormals are scaled first. log(0) = -inf, log(x < 0) = NaN.
// tanh: odd polynomial below 0.625, else 1 - 2 / (exp(2 |x|) + 1).
// erf: odd polynomial below 1, else 1 - exp(-p(|x|)), p fitted to -log(erfc).
#define BRIM_MATH(P, F, I)                                                                         \
    DEVICE_FN F P##pow2_scale(F p, I n)                                                            \
    {                                                                                              \
        I half_n = n >> 1;                                                                         \
        return p * P##as_float((half_n + 127) << 23) * P##as_float((n - half_n + 127) << 23);      \
    }                                                                                              \
    DEVICE_FN F P##exp_of_rest(F x, F t)                                                           \
    {                                                                                              \
        F n = t - 12583039.0f;                                                                     \
        F r = P##fma(n, (F)(-0.693145752f), x);                                                    \
        r = P##fma(n, (F)(-1.42860677e-06f), r);                                                   \
        F p = P##fma((F)(0.00138131448f), r, (F)(0.00836941879f));                                 \
        p = P##fma(p, r, (F)(0.0416684560f));                                                      \
        p = P##fma(p, r, (F)(0.166665152f));                                                       \
        p = P##fma(p, r, (F)(0.49999994f));                                                        \
        p = P##fma(p, r, (F)(1.0f));                                                               \
        return P##fma(p, r, (F)(1.0f));                                                            \
    }                                                                                              \
    DEVICE_FN F P##exp(F x)                                                                        \
    {                                                                                              \
        x = P##where(x > 89.0f, (F)(89.0f), x);                                                    \
        x = P##where(x < -104.0f, (F)(-104.0f), x);                                                \
        F t = P##fma(x, (F)(1.44269504f), (F)(12583039.0f));                                       \
        return P##pow2_scale(P##exp_of_rest(x, t), P##as_int(t) - 0x4b40007f);                     \
    }                                                                                              \
    DEVICE_FN F P##exp_negative(F x)                                                               \
    {                                                                                              \
        F t = P##fma(x, (F)(1.44269504f), (F)(12583039.0f));                                       \
        F y = P##exp_of_rest(x, t) * P##as_float(P##as_int(t) << 23);                              \
        return P##where(x < -87.0f, (F)(0.0f), y);                                                 \
    }                                                                                              \
    DEVICE_FN F P##exp2_of_rest(F r)                                                               \
    {                                                                                              \
        F p = P##fma((F)(0.000153523171f), r, (F)(0.00134001696f));                                \
        p = P##fma(p, r, (F)(0.00961844996f));                                                     \
        p = P##fma(p, r, (F)(0.0555032939f));                                                      \
        p = P##fma(p, r, (F)(0.240226477f));                                                       \
        p = P##fma(p, r, (F)(0.693147182f));                                                       \
        return P##fma(p, r, (F)(1.0f));                                                            \
    }                                                                                              \
    DEVICE_FN F P##exp2(F x)                                                                       \
    {                                                                                              \
        x = P##where(x > 129.0f, (F)(129.0f), x);                                                  \
        x = P##where(x < -151.0f, (F)(-151.0f), x);                                                \
        F t = x + 12582912.0f;                                                                     \
        return P##pow2_scale(P##exp2_of_rest(x - (t - 12582912.0f)), P##as_int(t) - 0x4b400000);   \
    }                                                                                              \
    DEVICE_FN F P##exp2_in_range(F x)                                                              \
    {                                                                                              \
        F t = x + 12582912.0f;                                                                     \
        F p = P##exp2_of_rest(x - (t - 12582912.0f));                                              \
        return P##as_float(P##as_int(p) + (P##as_int(t) << 23));                                   \
    }                                                                                              \
    DEVICE_FN F P##log(F x)                                                                        \
    {                                                                                              \
        F scaled = P##where(x < 1.17549435e-38f, x * 8388608.0f, x);                               \
        F bias = P##where(x < 1.17549435e-38f, (F)(-23.0f), (F)(0.0f));                            \
        I bits = P##as_int(scaled) - 0x3f3504f3;                                                   \
        F n = P##from_int(bits >> 23) + bias;                                                      \
        F f = P##as_float((bits & 0x7fffff) + 0x3f3504f3) - 1.0f;                                  \
        F p = P##fma((F)(-0.0763449743f), f, (F)(0.12761578f));                                    \
        p = P##fma(p, f, (F)(-0.131601825f));                                                      \
        p = P##fma(p, f, (F)(0.142017573f));                                                       \
        p = P##fma(p, f, (F)(-0.166233569f));                                                      \
        p = P##fma(p, f, (F)(0.200012267f));                                                       \
        p = P##fma(p, f, (F)(-0.250008196f));                                                      \
        p = P##fma(p, f, (F)(0.333333313f));                                                       \
        F z = f * f;                                                                               \
        p = P##fma(p * f, z, n * 1.42860677e-06f);                                                 \
        p = P##fma(z, (F)(-0.5f), p) + f;                                                          \
        p = P##fma(n, (F)(0.693145752f), p);                                                       \
        p = P##where(x > 3.40282347e38f, x, p);                                                    \
        p = P##where(x == 0.0f, (F)(-INFINITY), p);                                                \
        return P##where(x >= 0.0f, p, (F)(NAN));                                                   \
    }                                                                                              \
    DEVICE_FN F P##tanh(F x)                                                                       \
    {                                                                                              \
        F a = P##abs(x), z = x * x;                                                                \
        F p = P##fma((F)(-0.00570498733f), z, (F)(0.020639088f));                                  \
        p = P##fma(p, z, (F)(-0.0537397154f));                                                     \
        p = P##fma(p, z, (F)(0.133314416f));                                                       \
        p = P##fma(p, z, (F)(-0.333332807f));                                                      \
        p = P##fma(p * z, x, x);                                                                   \
        F big = 1.0f - 2.0f / (P##exp(a + a) + 1.0f);                                              \
        return P##where(a < 0.625f, p, P##where(x < 0.0f, -big, big));                             \
    }                                                                                              \
    DEVICE_FN F P##erf(F x)                                                                        \
    {                                                                                              \
        F a = P##abs(x), z = x * x, c = P##where(a > 4.0f, (F)(4.0f), a);                          \
        F p = P##fma((F)(7.85388402e-05f), z, (F)(-0.000801020127f));                              \
        p = P##fma(p, z, (F)(0.00518832868f));                                                     \
        p = P##fma(p, z, (F)(-0.0268538129f));                                                     \
        p = P##fma(p, z, (F)(0.112835854f));                                                       \
        p = P##fma(p, z, (F)(-0.37612626f));                                                       \
        p = P##fma(p, z, (F)(0.128379166f));                                                       \
        p = P##fma(p, x, x);                                                                       \
        F q = P##fma((F)(-0.000185574012f), c, (F)(0.00293960725f));                               \
        q = P##fma(q, c, (F)(-0.0218053181f));                                                     \
        q = P##fma(q, c, (F)(0.103037372f));                                                       \
        q = P##fma(q, c, (F)(0.638225675f));                                                       \
        q = P##fma(q, c, (F)(1.12704003f));                                                        \
        q = P##fma(q, c, (F)(0.000353719515f));                                                    \
        F big = 1.0f - P##exp(-q);                                                                 \
        return P##where(a < 1.0f, p, P##where(x < 0.0f, -big, big));                               \
    }

BRIM_MATH(s_, float, int_t)
#if VEC > 1
BRIM_MATH(v_, vecf, veci)
#else
#define v_exp(x) s_exp(x)
#define v_exp2(x) s_exp2(x)
#define v_exp_negative(x) s_exp_negative(x)
#define v_exp2_in_range(x) s_exp2_in_range(x)
#define v_log(x) s_log(x)
#define v_tanh(x) s_tanh(x)
#define v_erf(x) s_erf(x)
#endif
#else
#define s_exp_negative(x) s_exp(x)
#define v_exp_negative(x) v_exp(x)
#define s_exp2_in_range(x) s_exp2(x)
#define v_exp2_in_range(x) v_exp2(x)
#endif

// sigmoid(x) = 1 / (1 + exp(-x)): no overflow trouble, since 1 / inf is 0. gelu_tanh, gelu_erf: Hendrycks and Gimpel
// 2016, the approximation and the definition. NAME_slope is the derivative of NAME; beyond 30 (gelu_tanh: beyond 10 and
// -10.1) those of gelu are 0 or 1 to the last bit, and the limit keeps the squares finite. (1 + tanh(u)) / 2 is written as
// 1 / (1 + 2^t), t = -2 u log2(e), which is shorter and does not cancel. _(c) makes an F of a constant.
#define BRIM_ACTIVATIONS(P, F, _)                                                                  \
    DEVICE_FN F P##relu(F x) { return P##max(x, _(0.0f)); }                                        \
    DEVICE_FN F P##is_finite(F x)                                                                  \
    {                                                                                              \
        return P##where(P##le(P##abs(x), _(3.40282347e38f)), _(1.0f), _(0.0f));                    \
    }                                                                                              \
    DEVICE_FN F P##sigmoid(F x) { return 1.0f / (1.0f + P##exp(-x)); }                             \
    DEVICE_FN F P##silu(F x) { return x * P##sigmoid(x); }                                         \
    DEVICE_FN F P##silu_slope(F x)                                                                 \
    {                                                                                              \
        F s = P##sigmoid(x);                                                                       \
        return s * P##fma(x, 1.0f - s, _(1.0f));                                                   \
    }                                                                                              \
    DEVICE_FN F P##gelu_tanh(F x)                                                                  \
    {                                                                                              \
        F t = x * P##fma(x * x, _(-0.102943240f), _(-2.30220820f));                                \
        t = P##where(P##gt(t, _(128.0f)), _(128.0f), t);                                           \
        t = P##where(P##lt(t, _(-126.0f)), _(-126.0f), t);                                         \
        return x / (1.0f + P##exp2_in_range(t));                                                   \
    }                                                                                              \
    DEVICE_FN F P##gelu_tanh_slope(F x)                                                            \
    {                                                                                              \
        x = P##where(P##gt(x, _(10.0f)), _(10.0f), x);                                             \
        x = P##where(P##lt(x, _(-10.1f)), _(-10.1f), x);                                           \
        F z = x * x, t = x * P##fma(z, _(-0.102943240f), _(-2.30220820f));                         \
        t = P##where(P##gt(t, _(128.0f)), _(128.0f), t);                                           \
        F s = 1.0f / (1.0f + P##exp2_in_range(t));                                                 \
        F slope = P##fma(z, _(0.214064461f), _(1.59576912f));                                      \
        return P##fma(x * (s * (1.0f - s)), slope, s);                                             \
    }                                                                                              \
    DEVICE_FN F P##gelu_erf(F x) { return 0.5f * x * (1.0f + P##erf(x * 0.707106781f)); }          \
    DEVICE_FN F P##gelu_erf_slope(F x)                                                             \
    {                                                                                              \
        x = P##where(P##gt(x, _(30.0f)), _(30.0f), x);                                             \
        x = P##where(P##lt(x, _(-30.0f)), _(-30.0f), x);                                           \
        F density = 0.398942280f * P##exp(-0.5f * x * x);                                          \
        return P##fma(x, density, 0.5f * (1.0f + P##erf(x * 0.707106781f)));                       \
    }

#define BRIM_AS_IS(x) (x)
BRIM_ACTIVATIONS(s_, float, BRIM_AS_IS)
BRIM_ACTIVATIONS(v_, vecf, splat)

// ---- reductions over the group ---------------------------------------------------------------------------------

// The tree's last levels, within a subgroup, need no barriers where the dialect has SUBGROUP_DOWN. The pairs are the
// same.
#if defined SUBGROUP && GROUP > SUBGROUP
#define BRIM_LAST_HALF SUBGROUP
#define BRIM_LAST_LEVELS(combine)                                                                  \
    if (id < SUBGROUP) {                                                                           \
        float part = combine(scratch[id], scratch[id + SUBGROUP]);                                 \
        UNROLL                                                                                     \
        for (int_t half_size = SUBGROUP / 2; half_size > 0; half_size /= 2)                        \
            part = combine(part, SUBGROUP_DOWN(part, half_size));                                  \
        if (id == 0) scratch[0] = part;                                                            \
    }                                                                                              \
    BARRIER();
#else
#define BRIM_LAST_HALF 0
#define BRIM_LAST_LEVELS(combine)
#endif
#define BRIM_GROUP_REDUCE(name, combine)                                                           \
    DEVICE_FN float name(float x, LOCAL_PTR float *scratch)                                        \
    {                                                                                              \
        int_t id = local_id();                                                                     \
        scratch[id] = x;                                                                           \
        BARRIER();                                                                                 \
        for (int_t half_size = GROUP / 2; half_size > BRIM_LAST_HALF; half_size /= 2) {            \
            if (id < half_size) scratch[id] = combine(scratch[id], scratch[id + half_size]);       \
            BARRIER();                                                                             \
        }                                                                                          \
        BRIM_LAST_LEVELS(combine)                                                                  \
        float r = scratch[0];                                                                      \
        BARRIER();                                                                                 \
        return r;                                                                                  \
    }
#define BRIM_ADD(a, b) ((a) + (b))
#if GROUP > 1
BRIM_GROUP_REDUCE(group_sum, BRIM_ADD)
BRIM_GROUP_REDUCE(group_max, s_max)
#else
#define group_sum(x, scratch) ((void)(scratch), (x))
#define group_max(x, scratch) ((void)(scratch), (x))
#endif

// ---- rows ------------------------------------------------------------------------------------------------------

#define EACH_ROW(row, rows, per)                                                                   \
    for (long_t row = (long_t)group_id(0) * (per),                                                 \
                row##_end = row + (per) < (rows) ? row + (per) : (rows);                           \
         row < row##_end; ++row)
#define EACH_VECTOR(i, n) for (int_t i = local_id() * VEC; i <= (n) - VEC; i += GROUP * VEC)
#define BRIM_BLOCK (8 * GROUP * VEC)
#define EACH_BLOCK(b, n) for (int_t b = local_id() * VEC; b <= (n) - VEC; b += BRIM_BLOCK)
#define EACH_IN_BLOCK(i, b, n)                                                                     \
    for (int_t i = (b); i < (b) + BRIM_BLOCK && i <= (n) - VEC; i += GROUP * VEC)
#if GROUP >= VEC // fewer are left than the group has work-items
#define EACH_REST(i, n) for (int_t i = (n) - (n) % VEC + local_id(); i < (n); i = (n))
#else
#define EACH_REST(i, n) for (int_t i = (n) - (n) % VEC + local_id(); i < (n); i += GROUP)
#endif

// ---- random numbers --------------------------------------------------------------------------------------------

// Philox4x32-10: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
typedef struct philox_words {
    uint_t x[4];
} philox_words;

DEVICE_FN philox_words philox4x32(uint_t c0, uint_t c1, uint_t c2, uint_t c3, uint_t k0, uint_t k1)
{
    philox_words r;
    UNROLL
    for (int round = 0; round < 10; ++round) {
        uint_t hi0 = s_mulhi(0xD2511F53u, c0), lo0 = 0xD2511F53u * c0;
        uint_t hi1 = s_mulhi(0xCD9E8D57u, c2), lo1 = 0xCD9E8D57u * c2;
        c0 = hi1 ^ c1 ^ k0;
        c2 = hi0 ^ c3 ^ k1;
        c1 = lo1;
        c3 = lo0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    r.x[0] = c0;
    r.x[1] = c1;
    r.x[2] = c2;
    r.x[3] = c3;
    return r;
}

// The upper 24 bits as a number in [0, 1): every result is exact.
DEVICE_FN float uniform01(uint_t bits) { return (float)(bits >> 8) * 5.9604644775390625e-08f; }
