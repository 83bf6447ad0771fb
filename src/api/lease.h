/*-------------------------------------------------------------------------
 *
 * lease.h
 *	  The lease that a client has of a batch: its token, its length.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_API_LEASE_H
#define BACKFILL_API_LEASE_H

#include "datatype/timestamp.h"

#include "store/lease.h"

extern char *lease_token_text(const LeaseToken *token);
extern bool lease_parse_token(const char *words, LeaseToken *token);

#endif							/* BACKFILL_API_LEASE_H */
