/*-------------------------------------------------------------------------
 *
 * memory.c
 *	  Memory that is there, or the program ends.
 *
 * A console without memory has nothing to show.  It says so and ends; what
 * looks after it (systemd) starts it again.  The backfills do not notice.
 *
 *-------------------------------------------------------------------------
 */
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "memory.h"

/* So many bytes, all zero.  The caller frees them with free(). */
void *
memory_get(size_t size)
{
	void	   *pointer = calloc(1, size > 0 ? size : 1);

	if (pointer == NULL)
		log_die("out of memory");
	return pointer;
}

/* The same bytes in a place of another size; what is added is not set. */
void *
memory_resize(void *pointer, size_t size)
{
	pointer = realloc(pointer, size > 0 ? size : 1);
	if (pointer == NULL)
		log_die("out of memory");
	return pointer;
}

/* A copy of a text, or NULL of NULL. */
char *
memory_copy(const char *text)
{
	return text == NULL ? NULL : memory_copy_n(text, strlen(text));
}

/* A copy of so many bytes, with a zero behind them. */
char *
memory_copy_n(const char *text, size_t length)
{
	char	   *copy = memory_get(length + 1);

	memcpy(copy, text, length);
	return copy;
}
