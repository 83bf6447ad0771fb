/*-------------------------------------------------------------------------
 *
 * memory.h
 *	  Memory that is there, or the program ends.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CONSOLE_MEMORY_H
#define CONSOLE_MEMORY_H

#include <stddef.h>

extern void *memory_get(size_t size);
extern void *memory_resize(void *pointer, size_t size);
extern char *memory_copy(const char *text);
extern char *memory_copy_n(const char *text, size_t length);

#endif							/* CONSOLE_MEMORY_H */
