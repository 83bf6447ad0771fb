/*-------------------------------------------------------------------------
 *
 * secret.h
 *	  Random tokens, and passwords in memory.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CONSOLE_SECRET_H
#define CONSOLE_SECRET_H

#include <stdbool.h>
#include <stddef.h>

/* Characters of a token, which stands for 256 random bits, and the zero. */
#define SECRET_TOKEN 65

extern void secret_init(void);
extern void secret_token(char token[SECRET_TOKEN]);
extern void secret_sign(const char *text, char token[SECRET_TOKEN]);
extern bool secret_equal(const char *a, const char *b);
extern char *secret_keep(const char *password);
extern void secret_forget(char *password);
extern void secret_wipe(char *text);

#endif							/* CONSOLE_SECRET_H */
