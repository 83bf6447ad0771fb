/*-------------------------------------------------------------------------
 *
 * log.h
 *	  What the program says on its standard error.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CONSOLE_LOG_H
#define CONSOLE_LOG_H

extern void log_note(const char *format,...) __attribute__((format(printf, 1, 2)));
extern void log_die(const char *format,...) __attribute__((format(printf, 1, 2), noreturn));

#endif							/* CONSOLE_LOG_H */
