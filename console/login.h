/*-------------------------------------------------------------------------
 *
 * login.h
 *	  Letting a visitor in.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CONSOLE_LOGIN_H
#define CONSOLE_LOGIN_H

#include "request.h"
#include "session.h"

typedef struct Login Login;

extern void login_show(Request *request);
extern void login_try(Request *request);
extern void login_abandon(Login *login);
extern Session *login_session(const Request *request);
extern void login_leave(Request *request);
extern void login_stop(void);

#endif							/* CONSOLE_LOGIN_H */
