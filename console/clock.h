/*-------------------------------------------------------------------------
 *
 * clock.h
 *	  The time that has passed.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CONSOLE_CLOCK_H
#define CONSOLE_CLOCK_H

#include <stdint.h>

extern void clock_init(void);
extern int64_t clock_now(void);
extern int64_t clock_real(int64_t ms);

#endif							/* CONSOLE_CLOCK_H */
