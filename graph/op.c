#include "graph/graph.h"

#define VARIADIC OP_VARIADIC
const op_info op_table[OP_COUNT] = {
#define BRIM_OP(id, name_, in, out, attr_, family_, inplace_, grad, cast_, expression_, meaning_)  \
    [OP_##id] = {.name = #name_,                                                                   \
                 .inputs = in,                                                                     \
                 .outputs = out,                                                                   \
                 .attr = ATTR_##attr_,                                                             \
                 .family = FAMILY_##family_,                                                       \
                 .inplace = inplace_,                                                              \
                 .derivative = DERIVATIVE_##grad,                                                  \
                 .cast = CAST_##cast_,                                                             \
                 .expression = expression_,                                                        \
                 .meaning = meaning_},
#include "graph/op.def"
#undef BRIM_OP
};

bool op_accepts(op_id op, int inputs) {
    int declared = op_table[op].inputs;
    // A chain of constants alone reads nothing.
    if (declared == OP_VARIADIC) return inputs >= (op == OP_FUSED ? 0 : 1);
    return declared < 0 ? inputs == -declared || inputs == -declared + 1 : inputs == declared;
}
