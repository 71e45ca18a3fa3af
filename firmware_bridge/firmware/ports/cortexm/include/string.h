/* The little of <string.h> that the core uses, for compilers without a C library; memory.c has the functions. The
 * names stand for the compiler's own versions, so that short copies become single instructions. */
#ifndef SNN_STRING_H
#define SNN_STRING_H

#include <stddef.h>

#define memcpy __builtin_memcpy
#define memmove __builtin_memmove
#define memset __builtin_memset
#define memcmp __builtin_memcmp

#endif
