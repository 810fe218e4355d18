// Floating-point numbers as text that reads back to the same bits, whatever the locale: the decimal
// point is '.'.
#ifndef BRIM_CORE_NUMBER_H
#define BRIM_CORE_NUMBER_H

#include <stdbool.h>

enum { NUMBER_TEXT = 32 };

// The shortest decimal text that gives value again: "0.1", "1e-08", "nan", "-inf".
void number_print(double value, char text[NUMBER_TEXT]);

// The same for a float, whose texts are shorter: 0.1f is "0.1", not "0.10000000149011612".
void number_print_f32(float value, char text[NUMBER_TEXT]);

// Reads a decimal number such as "3", "-0.5" or "1e-3". False, and *value untouched, where text is
// anything else: empty, with blanks or a rest, hexadecimal, infinite or too large for a double.
bool number_parse(const char *text, double *value);

#endif
