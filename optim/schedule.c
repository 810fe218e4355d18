#include <math.h>
#include <brim/train.h>

double brim_schedule_lr(const brim_schedule *s, double lr, int64_t step) {
    if (step <= s->warmup) return lr * (double)step / (double)s->warmup;
    if (s->kind == BRIM_CONSTANT || s->steps <= s->warmup) return lr;
    double done = (double)(step - s->warmup) / (double)(s->steps - s->warmup);
    if (done > 1) done = 1;
    double left =
        s->kind == BRIM_LINEAR ? 1 - done : 0.5 * (1 + cos(3.14159265358979323846 * done));
    return s->min_lr + (lr - s->min_lr) * left;
}
