/*-------------------------------------------------------------------------
 *
 * listen.h
 *	  The socket that browsers connect to.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CONSOLE_LISTEN_H
#define CONSOLE_LISTEN_H

extern int	listen_open(void);
extern void listen_close(void);

#endif							/* CONSOLE_LISTEN_H */
