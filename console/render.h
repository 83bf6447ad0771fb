/*-------------------------------------------------------------------------
 *
 * render.h
 *	  Pages, for readers with script and without.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CONSOLE_RENDER_H
#define CONSOLE_RENDER_H

#include "request.h"

extern void render_value(Request *request, const char *json);
extern void render_error(Request *request, int status, const char *error);
extern void render_login(Request *request, const char *token, const char *message);

#endif							/* CONSOLE_RENDER_H */
