// BRIM_API marks the symbols that the shared library exports; all others are hidden.
#ifndef BRIM_EXPORT_H
#define BRIM_EXPORT_H
#if defined(__GNUC__)
#define BRIM_API __attribute__((visibility("default")))
#else
#define BRIM_API
#endif
#endif
