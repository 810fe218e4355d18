// The kernel dialect, OpenCL C 1.2 part. See dialect.h for the interface; the loader puts this text in front of it.
//
// Needs neither cl_khr_fp16 nor cl_khr_fp64: f16 is 16 bits of storage, converted with vload_half and vstore_half_rte
// in memory, and with integer operations in registers.

// Contraction would make a value's bits depend on what the compiler saw around it.
#pragma OPENCL FP_CONTRACT OFF

#define KERNEL __kernel __attribute__((reqd_work_group_size(GROUP, 1, 1))) void
#define KERNEL_AT_ONCE(items) KERNEL
#define GLOBAL __global
#define LOCAL __local
#define LOCAL_PTR __local
#define CONSTANT __constant
#define DEVICE_FN static inline __attribute__((always_inline))
#define UNROLL _Pragma("unroll")
#define NO_UNROLL _Pragma("nounroll")
#define BRIM_PRAGMA(text) _Pragma(#text)
#define UNROLL_BY(n) BRIM_PRAGMA(unroll n)

typedef uchar uchar_t;
typedef ushort ushort_t;
typedef int int_t;
typedef uint uint_t;
typedef long long_t;
typedef ulong ulong_t;

#define group_id(d) ((int_t)get_group_id(d))
#define num_groups(d) ((int_t)get_num_groups(d))
#if GROUP == 1
#define BARRIER()
#define local_id() 0
#else
#define BARRIER() barrier(CLK_LOCAL_MEM_FENCE | CLK_GLOBAL_MEM_FENCE)
#define local_id() ((int_t)get_local_id(0))
#endif

#define BRIM_JOIN_(a, b) a##b
#define BRIM_JOIN(a, b) BRIM_JOIN_(a, b)

#if VEC == 1
typedef float vecf;
typedef int veci;
typedef uint vecu;
typedef ushort vech;
#define BRIM_VLOAD(p, i) ((p)[i])
#define BRIM_VSTORE(p, i, v) ((p)[i] = (v))
#define v_as_int(x) as_int(x)
#define v_as_uint(x) as_uint(x)
#define v_as_float(x) as_float(x)
#define v_to_int(x) convert_int_rtz(x)
#define v_from_int(x) convert_float(x)
#define BRIM_V_HALF(x) convert_ushort(x)
#define BRIM_V_WIDE(x) convert_uint(x)
#else
typedef BRIM_JOIN(float, VEC) vecf;
typedef BRIM_JOIN(int, VEC) veci;
typedef BRIM_JOIN(uint, VEC) vecu;
typedef BRIM_JOIN(ushort, VEC) vech;
#define BRIM_VLOAD(p, i) BRIM_JOIN(vload, VEC)(0, (p) + (i))
#define BRIM_VSTORE(p, i, v) BRIM_JOIN(vstore, VEC)((v), 0, (p) + (i))
#define v_as_int(x) BRIM_JOIN(as_int, VEC)(x)
#define v_as_uint(x) BRIM_JOIN(as_uint, VEC)(x)
#define v_as_float(x) BRIM_JOIN(as_float, VEC)(x)
#define v_to_int(x) BRIM_JOIN(BRIM_JOIN(convert_int, VEC), _rtz)(x)
#define v_from_int(x) BRIM_JOIN(convert_float, VEC)(x)
#define BRIM_V_HALF(x) BRIM_JOIN(convert_ushort, VEC)(x)
#define BRIM_V_WIDE(x) BRIM_JOIN(convert_uint, VEC)(x)
#endif
// 1 where true in a scalar, -1 in a vector: never use a mask's value, only m_and, m_or, m_not and v_where.
typedef veci maskv;

#define s_as_int(x) as_int(x)
#define s_as_uint(x) as_uint(x)
#define s_as_float(x) as_float(x)
#define s_to_int(x) convert_int_rtz(x)
#define s_from_int(x) convert_float(x)
#define s_mulhi(a, b) mul_hi((uint_t)(a), (uint_t)(b))

#define splat(x) ((vecf)(x))
#define splat_i(x) ((veci)(x))
#define vget(v, i) (((float *)&(v))[i])
#define vset(v, i, x) (((float *)&(v))[i] = (x))
#define vget_i(v, i) (((int_t *)&(v))[i])
#define vset_i(v, i, x) (((int_t *)&(v))[i] = (x))

#define v_fma(a, b, c) fma((vecf)(a), (vecf)(b), (vecf)(c))
#define v_lt(a, b) ((vecf)(a) < (vecf)(b))
#define v_le(a, b) ((vecf)(a) <= (vecf)(b))
#define v_gt(a, b) ((vecf)(a) > (vecf)(b))
#define v_ge(a, b) ((vecf)(a) >= (vecf)(b))
#define v_eq(a, b) ((vecf)(a) == (vecf)(b))
#define v_ne(a, b) ((vecf)(a) != (vecf)(b))
#define vi_lt(a, b) ((veci)(a) < (veci)(b))
#define vi_le(a, b) ((veci)(a) <= (veci)(b))
#define vi_gt(a, b) ((veci)(a) > (veci)(b))
#define vi_ge(a, b) ((veci)(a) >= (veci)(b))
#define vi_eq(a, b) ((veci)(a) == (veci)(b))
#define vi_ne(a, b) ((veci)(a) != (veci)(b))
#define v_where(m, a, b) ((m) ? (vecf)(a) : (vecf)(b))
#define vi_where(m, a, b) ((m) ? (veci)(a) : (veci)(b))
#define m_and(a, b) ((a) & (b))
#define m_or(a, b) ((a) | (b))
#if VEC == 1
#define m_not(a) (!(a))
#define m_any(a) (a)
#define m_all(a) (a)
#else
#define m_not(a) (~(a))
#define m_any(a) any(a)
#define m_all(a) all(a)
#endif
#define v_abs(x) fabs((vecf)(x))
#define v_floor(x) floor((vecf)(x))
#define v_sqrt(x) sqrt((vecf)(x))

#define s_fma(a, b, c) fma((float)(a), (float)(b), (float)(c))
#define s_abs(x) fabs((float)(x))
#define s_floor(x) floor((float)(x))
#define s_sqrt(x) sqrt((float)(x))
#define s_where(m, a, b) ((m) ? (float)(a) : (float)(b))

#if !BRIM_CPU
#define v_exp(x) exp((vecf)(x))
#define v_exp2(x) exp2((vecf)(x))
#define v_log(x) log((vecf)(x))
#define v_tanh(x) tanh((vecf)(x))
#define v_erf(x) erf((vecf)(x))
#define s_exp(x) exp((float)(x))
#define s_exp2(x) exp2((float)(x))
#define s_log(x) log((float)(x))
#define s_tanh(x) tanh((float)(x))
#define s_erf(x) erf((float)(x))
#endif
#define s_sin(x) sin((float)(x))
#define s_cos(x) cos((float)(x))
#define s_pow(x, y) pow((float)(x), (float)(y))
#define v_pow(x, y) pow((vecf)(x), (vecf)(y))

DEVICE_FN veci lane_index(void)
{
#if VEC == 1
    return 0;
#elif VEC == 4
    return (veci)(0, 1, 2, 3);
#elif VEC == 8
    return (veci)(0, 1, 2, 3, 4, 5, 6, 7);
#else
    return (veci)(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
#endif
}

DEVICE_FN float v_sum(vecf v)
{
#if VEC == 1
    return v;
#else
#if VEC == 16
    float8 a = v.lo + v.hi;
#elif VEC == 8
    float8 a = v;
#endif
#if VEC == 4
    float4 b = v;
#else
    float4 b = a.lo + a.hi;
#endif
    float2 c = b.lo + b.hi;
    return c.x + c.y;
#endif
}

// ---- storage formats -------------------------------------------------------------------------------------------

// One text for scalars (P = s_) and vectors (P = v_). F, U, H: float, 32-bit and 16-bit unsigned types of one width.
//
// f16: a value below 2^-14 is rounded by an addition to 0.5, whose last bit is worth 2^-24 as f16's subnormals are; the
// others by adding half an ulp less the parity bit. Inf and NaN are kept, NaN made quiet.
// bf16: half an ulp less the parity bit again; a NaN keeps its upper bits, with the quiet bit set.
#define BRIM_STORAGE(P, F, U, AS_F, AS_U, NARROW, WIDE, H)                                         \
    DEVICE_FN U P##f16_bits32(F x)                                                                 \
    {                                                                                              \
        U bits = AS_U(x), sign = (bits >> 16) & (U)0x8000u, a = bits & (U)0x7fffffffu;             \
        U tiny = AS_U(AS_F(a) + (F)0.5f) - (U)0x3f000000u;                                         \
        U normal = (a + (U)0xc8000fffu + ((a >> 13) & (U)1u)) >> 13;                               \
        U r = a < (U)0x38800000u ? tiny : normal;                                                  \
        r = a >= (U)0x47800000u ? (U)0x7c00u : r;                                                  \
        r = a > (U)0x7f800000u ? ((a >> 13) & (U)0x3ffu) | (U)0x7e00u : r;                         \
        return r | sign;                                                                           \
    }                                                                                              \
    DEVICE_FN F P##f16_value32(U h)                                                                \
    {                                                                                              \
        U sign = (h & (U)0x8000u) << 16, a = (h & (U)0x7fffu) << 13;                               \
        U tiny = AS_U(AS_F(a + (U)0x38800000u) - (F)6.103515625e-05f);                             \
        U r = a < (U)0x00800000u ? tiny : a + (U)0x38000000u;                                      \
        r = a >= (U)0x0f800000u ? a + (U)0x70000000u : r;                                          \
        return AS_F(r | sign);                                                                     \
    }                                                                                              \
    DEVICE_FN U P##bf16_bits32(F x)                                                                \
    {                                                                                              \
        U bits = AS_U(x);                                                                          \
        U r = bits + (U)0x7fffu + ((bits >> 16) & (U)1u);                                          \
        r = x != x ? bits | (U)0x400000u : r;                                                      \
        return r >> 16;                                                                            \
    }                                                                                              \
    DEVICE_FN F P##round_f16(F x) { return P##f16_value32(P##f16_bits32(x)); }                     \
    DEVICE_FN H P##encode_bf16(F x) { return NARROW(P##bf16_bits32(x)); }                          \
    DEVICE_FN F P##decode_bf16(H h) { return AS_F(WIDE(h) << 16); }                                \
    DEVICE_FN F P##round_bf16(F x) { return AS_F(P##bf16_bits32(x) << 16); }

BRIM_STORAGE(s_, float, uint, as_float, as_uint, convert_ushort, convert_uint, ushort)
BRIM_STORAGE(v_, vecf, vecu, v_as_float, v_as_uint, BRIM_V_HALF, BRIM_V_WIDE, vech)

#define v_load(p, i) BRIM_VLOAD(p, i)
#define v_store(p, i, v) BRIM_VSTORE(p, i, v)
// What is promised to lie on a multiple of 4 elements becomes one access on a GPU. On a CPU a vector is the member of a
// packed struct: PoCL puts vload16 and vstore16 together from pieces of 2 elements, and compilers then work on those.
#define BRIM_HALF(name) BRIM_JOIN(name##_half, VEC)
#if BRIM_CPU && VEC > 1
typedef struct __attribute__((packed)) brim_packed_vecf {
    vecf v;
} brim_packed_vecf;
typedef struct __attribute__((packed)) brim_packed_veci {
    veci v;
} brim_packed_veci;
typedef struct __attribute__((packed)) brim_packed_vech {
    vech v;
} brim_packed_vech;
#define BRIM_ELEMV_LOAD(E, p, i) (((const GLOBAL brim_packed_##E *)((p) + (i)))->v)
#define BRIM_ELEMV_STORE(E, p, i, x) (((GLOBAL brim_packed_##E *)((p) + (i)))->v = (x))
#elif ALIGNED && VEC == 4
#undef BRIM_HALF
#define BRIM_HALF(name) name##a_half4
#define BRIM_ELEMV_LOAD(E, p, i) (*(const GLOBAL E *)((p) + (i)))
#define BRIM_ELEMV_STORE(E, p, i, x) (*(GLOBAL E *)((p) + (i)) = (x))
#else
#define BRIM_ELEMV_LOAD(E, p, i) BRIM_VLOAD(p, i)
#define BRIM_ELEMV_STORE(E, p, i, x) BRIM_VSTORE(p, i, x)
#endif

#define load_f32(p, i) ((p)[i])
#define store_f32(p, i, v) ((p)[i] = (v))
#define loadv_f32(p, i) BRIM_ELEMV_LOAD(vecf, p, i)
#define storev_f32(p, i, v) BRIM_ELEMV_STORE(vecf, p, i, v)
#define load_i32(p, i) ((p)[i])
#define store_i32(p, i, v) ((p)[i] = (v))
#define loadv_i32(p, i) BRIM_ELEMV_LOAD(veci, p, i)
#define storev_i32(p, i, v) BRIM_ELEMV_STORE(veci, p, i, v)
#define load_bf16(p, i) s_decode_bf16((p)[i])
#define store_bf16(p, i, v) ((p)[i] = s_encode_bf16(v))
#define loadv_bf16(p, i) v_decode_bf16(BRIM_ELEMV_LOAD(vech, p, i))
#define storev_bf16(p, i, v) BRIM_ELEMV_STORE(vech, p, i, v_encode_bf16(v))
#define load_f16(p, i) vload_half(0, (const GLOBAL half *)((p) + (i)))
#define store_f16(p, i, v) vstore_half_rte((float)(v), 0, (GLOBAL half *)((p) + (i)))
#if VEC == 1
#define loadv_f16(p, i) load_f16(p, i)
#define storev_f16(p, i, v) store_f16(p, i, v)
#else
#define loadv_f16(p, i) BRIM_HALF(vload)(0, (const GLOBAL half *)((p) + (i)))
#if BRIM_CPU
// By way of a variable: PoCL stores a constant with vstore_half as if its address were a multiple of the vector's size.
DEVICE_FN vech v_encode_f16(vecf x)
{
    vech h;
    BRIM_JOIN(BRIM_HALF(vstore), _rte)(x, 0, (half *)&h);
    return h;
}
#define storev_f16(p, i, v) BRIM_ELEMV_STORE(vech, p, i, v_encode_f16(v))
#else
#define storev_f16(p, i, v) BRIM_JOIN(BRIM_HALF(vstore), _rte)((v), 0, (GLOBAL half *)((p) + (i)))
#endif
#endif
