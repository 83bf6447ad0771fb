/*-------------------------------------------------------------------------
 *
 * token.h
 *	  The token of a claim, as a client has it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_API_TOKEN_H
#define BACKFILL_API_TOKEN_H

#include "store/lease.h"

extern char *token_text(const LeaseToken *token);
extern bool token_parse(const char *words, LeaseToken *token);

#endif							/* BACKFILL_API_TOKEN_H */
