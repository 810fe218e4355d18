// The kernel dialect, CUDA part. See dialect.h for the interface; the loader puts this text in front of it.
//
// Stands alone under NVRTC without -I: no cuda_fp16.h, no stdint.h. Compile with --ftz=false --prec-div=true
// --prec-sqrt=true -fmad=false: these are the language's IEEE operations and no contraction. PTX stands only here, in macros
// that a host's compiler may define before (the tests of this backend do).

// A kernel uses few of these functions.
#pragma nv_diag_suppress 177, 550

// KERNEL asks a multiprocessor for one group only: with no second number some targets spill registers to fit more. No
// target holds more than 16 groups for certain.
#define BRIM_GROUPS(items) ((items) < 2 * GROUP ? 1 : (items) < 16 * GROUP ? (items) / GROUP : 16)
#define KERNEL_AT_ONCE(items) extern "C" __global__ void __launch_bounds__(GROUP, BRIM_GROUPS(items))
#define KERNEL KERNEL_AT_ONCE(GROUP)
#define GLOBAL
#define LOCAL __shared__
#define LOCAL_PTR
#define CONSTANT __constant__
#define DEVICE_FN static __device__ __forceinline__
#define UNROLL _Pragma("unroll")
#define NO_UNROLL _Pragma("unroll 1")
#define BRIM_PRAGMA(text) _Pragma(#text)
#define UNROLL_BY(n) BRIM_PRAGMA(unroll n)

typedef unsigned char uchar_t;
typedef unsigned short ushort_t;
typedef int int_t;
typedef unsigned int uint_t;
typedef long long long_t;
typedef unsigned long long ulong_t;

#define group_id(d) ((int_t)((d) == 0 ? blockIdx.x : (d) == 1 ? blockIdx.y : blockIdx.z))
#define num_groups(d) ((int_t)((d) == 0 ? gridDim.x : (d) == 1 ? gridDim.y : gridDim.z))
#if GROUP == 1
#define BARRIER()
#define local_id() 0
#else
#define BARRIER() __syncthreads()
#define local_id() ((int_t)threadIdx.x)
#endif

// The x of the work-item n further on; of all work-items of a subgroup, which reach it together.
#define SUBGROUP 32
#define SUBGROUP_DOWN(x, n) __shfl_down_sync(0xffffffffu, x, n)

#define INFINITY __int_as_float(0x7f800000)
#define NAN __int_as_float(0x7fffffff)

#define s_as_int(x) __float_as_int(x)
#define s_as_uint(x) __float_as_uint(x)
DEVICE_FN float s_as_float(int_t x) { return __int_as_float(x); }
DEVICE_FN float s_as_float(uint_t x) { return __uint_as_float(x); }
#define s_to_int(x) __float2int_rz(x)
#define s_from_int(x) __int2float_rn(x)
#define s_mulhi(a, b) __umulhi(a, b)
#define s_fma(a, b, c) fmaf(a, b, c)
#define s_abs(x) fabsf(x)
#define s_floor(x) floorf(x)
#define s_sqrt(x) sqrtf(x)
#define s_exp(x) expf(x)
#define s_exp2(x) exp2f(x)
#define s_log(x) logf(x)
#define s_tanh(x) tanhf(x)
#define s_erf(x) erff(x)
#define s_sin(x) sinf(x)
#define s_cos(x) cosf(x)
#define s_pow(x, y) powf(x, y)
#define s_where(m, a, b) ((m) ? (float)(a) : (float)(b))

// ---- vectors ---------------------------------------------------------------------------------------------------

#if VEC == 1
typedef float vecf;
typedef int_t veci;
typedef bool maskv;
#define splat(x) ((float)(x))
#define splat_i(x) ((int_t)(x))
#define vget(v, i) (v)
#define vset(v, i, x) ((v) = (x))
#define vget_i(v, i) (v)
#define vset_i(v, i, x) ((v) = (x))
#define lane_index() 0
#define BRIM_EACH
#define BRIM_OF(v) (v)
#else
#define BRIM_EACH                                                                                  \
    _Pragma("unroll") for (int lane = 0; lane < VEC; ++lane)
#define BRIM_OF(v) (v).e[lane]
// Aligned so that a copy from or to a shared array is one access of 16 bytes.
struct __align__(16) vecf { float e[VEC]; };
struct __align__(16) veci { int_t e[VEC]; };
struct maskv { bool e[VEC]; };
DEVICE_FN vecf splat(float x) { vecf r; BRIM_EACH r.e[lane] = x; return r; }
DEVICE_FN veci splat_i(int_t x) { veci r; BRIM_EACH r.e[lane] = x; return r; }
#define vget(v, i) ((v).e[i])
#define vset(v, i, x) ((v).e[i] = (x))
#define vget_i(v, i) ((v).e[i])
#define vset_i(v, i, x) ((v).e[i] = (x))
DEVICE_FN veci lane_index() { veci r; BRIM_EACH r.e[lane] = lane; return r; }
DEVICE_FN vecf operator-(vecf a) { BRIM_EACH a.e[lane] = -a.e[lane]; return a; }
DEVICE_FN veci operator-(veci a) { BRIM_EACH a.e[lane] = -a.e[lane]; return a; }
DEVICE_FN maskv operator&(maskv a, maskv b)
{
    BRIM_EACH a.e[lane] = a.e[lane] && b.e[lane];
    return a;
}
DEVICE_FN maskv operator|(maskv a, maskv b)
{
    BRIM_EACH a.e[lane] = a.e[lane] || b.e[lane];
    return a;
}
DEVICE_FN maskv operator!(maskv a) { BRIM_EACH a.e[lane] = !a.e[lane]; return a; }
#define BRIM_OPERATOR(V, S, op)                                                                    \
    DEVICE_FN V operator op(V a, V b) { BRIM_EACH a.e[lane] = a.e[lane] op b.e[lane]; return a; }  \
    DEVICE_FN V operator op(V a, S b) { BRIM_EACH a.e[lane] = a.e[lane] op b; return a; }          \
    DEVICE_FN V operator op(S a, V b) { BRIM_EACH b.e[lane] = a op b.e[lane]; return b; }          \
    DEVICE_FN V &operator op##=(V &a, V b) { return a = a op b; }                                  \
    DEVICE_FN V &operator op##=(V &a, S b) { return a = a op b; }
BRIM_OPERATOR(vecf, float, +)
BRIM_OPERATOR(vecf, float, -)
BRIM_OPERATOR(vecf, float, *)
BRIM_OPERATOR(vecf, float, /)
BRIM_OPERATOR(veci, int_t, +)
BRIM_OPERATOR(veci, int_t, -)
BRIM_OPERATOR(veci, int_t, *)
#endif
#define m_and(a, b) ((a) & (b))
#define m_or(a, b) ((a) | (b))
#define m_not(a) (!(a))

#if VEC == 1
#define BRIM_V1(name, scalar) DEVICE_FN float name(float x) { return scalar(x); }
#define BRIM_V2(name, scalar) DEVICE_FN float name(float x, float y) { return scalar(x, y); }
#define BRIM_COMPARE(name, op)                                                                     \
    DEVICE_FN bool v_##name(float a, float b) { return a op b; }                                   \
    DEVICE_FN bool vi_##name(int_t a, int_t b) { return a op b; }
#else
#define BRIM_V1(name, scalar)                                                                      \
    DEVICE_FN vecf name(vecf x) { BRIM_EACH x.e[lane] = scalar(x.e[lane]); return x; }
#define BRIM_V2(name, scalar)                                                                      \
    DEVICE_FN vecf name(vecf x, vecf y)                                                            \
    {                                                                                              \
        BRIM_EACH x.e[lane] = scalar(x.e[lane], y.e[lane]);                                        \
        return x;                                                                                  \
    }
#define BRIM_COMPARE_(name, op, V, S)                                                              \
    DEVICE_FN maskv name(V a, V b)                                                                 \
    {                                                                                              \
        maskv m;                                                                                   \
        BRIM_EACH m.e[lane] = a.e[lane] op b.e[lane];                                              \
        return m;                                                                                  \
    }                                                                                              \
    DEVICE_FN maskv name(V a, S b)                                                                 \
    {                                                                                              \
        maskv m;                                                                                   \
        BRIM_EACH m.e[lane] = a.e[lane] op b;                                                      \
        return m;                                                                                  \
    }                                                                                              \
    DEVICE_FN maskv name(S a, V b)                                                                 \
    {                                                                                              \
        maskv m;                                                                                   \
        BRIM_EACH m.e[lane] = a op b.e[lane];                                                      \
        return m;                                                                                  \
    }
#define BRIM_COMPARE(name, op)                                                                     \
    BRIM_COMPARE_(v_##name, op, vecf, float)                                                       \
    BRIM_COMPARE_(vi_##name, op, veci, int_t)
#endif
BRIM_V1(v_abs, s_abs)
BRIM_V1(v_floor, s_floor)
BRIM_V1(v_sqrt, s_sqrt)
BRIM_V1(v_exp, s_exp)
BRIM_V1(v_exp2, s_exp2)
BRIM_V1(v_log, s_log)
BRIM_V1(v_tanh, s_tanh)
BRIM_V1(v_erf, s_erf)
BRIM_V2(v_pow, s_pow)
BRIM_COMPARE(lt, <)
BRIM_COMPARE(le, <=)
BRIM_COMPARE(gt, >)
BRIM_COMPARE(ge, >=)
BRIM_COMPARE(eq, ==)
BRIM_COMPARE(ne, !=)

#if VEC == 1
DEVICE_FN float v_fma(float a, float b, float c) { return fmaf(a, b, c); }
#define v_where(m, a, b) ((m) ? (float)(a) : (float)(b))
#define vi_where(m, a, b) ((m) ? (int_t)(a) : (int_t)(b))
#define v_as_int(x) s_as_int(x)
#define v_as_float(x) s_as_float(x)
#define v_to_int(x) s_to_int(x)
#define v_from_int(x) s_from_int(x)
#define m_any(a) (a)
#define m_all(a) (a)
DEVICE_FN float v_sum(float v) { return v; }
#else
// A scalar may stand for any operand, as in OpenCL.
struct vecf_or_scalar {
    vecf v;
    __device__ __forceinline__ vecf_or_scalar(vecf x) : v(x) {}
    __device__ __forceinline__ vecf_or_scalar(float x) : v(splat(x)) {}
};
struct veci_or_scalar {
    veci v;
    __device__ __forceinline__ veci_or_scalar(veci x) : v(x) {}
    __device__ __forceinline__ veci_or_scalar(int_t x) : v(splat_i(x)) {}
};
DEVICE_FN vecf v_fma(vecf_or_scalar a, vecf_or_scalar b, vecf_or_scalar c)
{
    BRIM_EACH c.v.e[lane] = fmaf(a.v.e[lane], b.v.e[lane], c.v.e[lane]);
    return c.v;
}
DEVICE_FN vecf v_where(maskv m, vecf_or_scalar a, vecf_or_scalar b)
{
    BRIM_EACH a.v.e[lane] = m.e[lane] ? a.v.e[lane] : b.v.e[lane];
    return a.v;
}
DEVICE_FN veci vi_where(maskv m, veci_or_scalar a, veci_or_scalar b)
{
    BRIM_EACH a.v.e[lane] = m.e[lane] ? a.v.e[lane] : b.v.e[lane];
    return a.v;
}
DEVICE_FN veci v_as_int(vecf x)
{
    veci r;
    BRIM_EACH r.e[lane] = __float_as_int(x.e[lane]);
    return r;
}
DEVICE_FN vecf v_as_float(veci x)
{
    vecf r;
    BRIM_EACH r.e[lane] = __int_as_float(x.e[lane]);
    return r;
}
DEVICE_FN veci v_to_int(vecf x)
{
    veci r;
    BRIM_EACH r.e[lane] = s_to_int(x.e[lane]);
    return r;
}
DEVICE_FN vecf v_from_int(veci x)
{
    vecf r;
    BRIM_EACH r.e[lane] = s_from_int(x.e[lane]);
    return r;
}
DEVICE_FN bool m_any(maskv m)
{
    bool r = false;
    BRIM_EACH r = r || m.e[lane];
    return r;
}
DEVICE_FN bool m_all(maskv m)
{
    bool r = true;
    BRIM_EACH r = r && m.e[lane];
    return r;
}
// The same tree as in OpenCL: halves are added until one is left.
DEVICE_FN float v_sum(vecf v)
{
    UNROLL
    for (int n = VEC / 2; n > 0; n /= 2) {
        UNROLL
        for (int i = 0; i < n; ++i) v.e[i] = v.e[i] + v.e[i + n];
    }
    return v.e[0];
}
#endif

// ---- storage formats -------------------------------------------------------------------------------------------

#ifndef PTX_F32_TO_F16
#define PTX_F32_TO_F16(h, x) asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(x))
#define PTX_F16_TO_F32(x, h) asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(h))
#endif
DEVICE_FN ushort_t s_encode_f16(float x)
{
    ushort_t h;
    PTX_F32_TO_F16(h, x);
    return h;
}
DEVICE_FN float s_decode_f16(ushort_t h)
{
    float x;
    PTX_F16_TO_F32(x, h);
    return x;
}
// Half an ulp less the parity bit; a NaN keeps its upper bits, with the quiet bit set.
DEVICE_FN ushort_t s_encode_bf16(float x)
{
    uint_t bits = __float_as_uint(x);
    uint_t r = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    return (ushort_t)((bits & 0x7fffffffu) > 0x7f800000u ? (bits >> 16) | 0x40u : r);
}
DEVICE_FN float s_decode_bf16(ushort_t h) { return __uint_as_float((uint_t)h << 16); }
DEVICE_FN float s_round_f16(float x) { return s_decode_f16(s_encode_f16(x)); }
DEVICE_FN float s_round_bf16(float x) { return s_decode_bf16(s_encode_bf16(x)); }
BRIM_V1(v_round_f16, s_round_f16)
BRIM_V1(v_round_bf16, s_round_bf16)

#define load_f32(p, i) ((p)[i])
#define store_f32(p, i, v) ((p)[i] = (v))
#define load_i32(p, i) ((p)[i])
#define store_i32(p, i, v) ((p)[i] = (v))
#define load_f16(p, i) s_decode_f16((p)[i])
#define store_f16(p, i, v) ((p)[i] = s_encode_f16(v))
#define load_bf16(p, i) s_decode_bf16((p)[i])
#define store_bf16(p, i, v) ((p)[i] = s_encode_bf16(v))

#if VEC == 1
#define v_load(p, i) ((p)[i])
#define v_store(p, i, v) ((p)[i] = (v))
#define loadv_f32(p, i) load_f32(p, i)
#define storev_f32(p, i, v) store_f32(p, i, v)
#define loadv_i32(p, i) load_i32(p, i)
#define storev_i32(p, i, v) store_i32(p, i, v)
#define loadv_f16(p, i) load_f16(p, i)
#define storev_f16(p, i, v) store_f16(p, i, v)
#define loadv_bf16(p, i) load_bf16(p, i)
#define storev_bf16(p, i, v) store_bf16(p, i, v)
#else
template <class I> DEVICE_FN vecf v_load(const float *p, I i)
{
    vecf r;
    BRIM_EACH r.e[lane] = p[i + lane];
    return r;
}
template <class I> DEVICE_FN void v_store(float *p, I i, vecf v) { BRIM_EACH p[i + lane] = v.e[lane]; }
// Four elements are one access where ALIGNED promises that VEC of them lie on a multiple of their size. The store is
// spelt out (in the default cache mode): in nested loops the compiler made four of an assignment.
#if ALIGNED
#define BRIM_ACCESS(name, E, Q, V, decode, encode)                                                 \
    DEVICE_FN V loadv_##name(const E *p, long_t i)                                                 \
    {                                                                                              \
        V r;                                                                                       \
        UNROLL for (int k = 0; k < VEC; k += 4)                                                    \
        {                                                                                          \
            Q q = *(const Q *)(p + i + k);                                                         \
            r.e[k] = decode(q.x);                                                                  \
            r.e[k + 1] = decode(q.y);                                                              \
            r.e[k + 2] = decode(q.z);                                                              \
            r.e[k + 3] = decode(q.w);                                                              \
        }                                                                                          \
        return r;                                                                                  \
    }                                                                                              \
    DEVICE_FN void storev_##name(E *p, long_t i, V v)                                              \
    {                                                                                              \
        UNROLL for (int k = 0; k < VEC; k += 4)                                                    \
        {                                                                                          \
            Q q;                                                                                   \
            q.x = encode(v.e[k]);                                                                  \
            q.y = encode(v.e[k + 1]);                                                              \
            q.z = encode(v.e[k + 2]);                                                              \
            q.w = encode(v.e[k + 3]);                                                              \
            __stwb((Q *)(p + i + k), q);                                                           \
        }                                                                                          \
    }
#else
#define BRIM_ACCESS(name, E, Q, V, decode, encode)                                                 \
    DEVICE_FN V loadv_##name(const E *p, long_t i)                                                 \
    {                                                                                              \
        V r;                                                                                       \
        BRIM_EACH r.e[lane] = decode(p[i + lane]);                                                 \
        return r;                                                                                  \
    }                                                                                              \
    DEVICE_FN void storev_##name(E *p, long_t i, V v)                                              \
    {                                                                                              \
        BRIM_EACH p[i + lane] = encode(v.e[lane]);                                                 \
    }
#endif
#define BRIM_SAME(x) (x)
BRIM_ACCESS(f32, float, float4, vecf, BRIM_SAME, BRIM_SAME)
BRIM_ACCESS(i32, int_t, int4, veci, BRIM_SAME, BRIM_SAME)
BRIM_ACCESS(f16, ushort_t, ushort4, vecf, s_decode_f16, s_encode_f16)
BRIM_ACCESS(bf16, ushort_t, ushort4, vecf, s_decode_bf16, s_encode_bf16)
#endif
