#include "core/error.h"
#include "core/journal.h"
#include "core/plot.h"

bool brim_journal_plot(const brim_journal *journal, const char *svg, brim_error *err) {
    if (failed(err) || !journal) return false;
    journal_column columns[] = {{.name = "loss"}, {.name = "held_out_loss"}};
    plot_series series[] = {{.name = "training", .smooth = true},
                            {.name = "held out", .dots = true}};
    size_t used = 0;
    if (journal_read(journal_path(journal), columns, 2, err)) {
        for (int i = 0; i < 2; i++) {
            if (columns[i].count == 0) continue;
            series[used] = series[i];
            series[used].x = columns[i].steps;
            series[used].y = columns[i].values;
            series[used++].count = columns[i].count;
        }
        plot_options options = {
            .title = "Loss", .x_label = "step", .y_label = "nats per token", .whole_x = true};
        plot_write(svg, &options, series, used, err);
    }
    for (int i = 0; i < 2; i++) journal_column_free(&columns[i]);
    return !failed(err);
}
