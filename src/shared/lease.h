/*-------------------------------------------------------------------------
 *
 * lease.h
 *	  The leases of clients: until when a batch is theirs.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_SHARED_LEASE_H
#define BACKFILL_SHARED_LEASE_H

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"
#include "utils/uuid.h"

#define LEASE_NAME_SIZE	NAMEDATALEN

/* Which batch it is about. */
typedef struct LeaseKey
{
	int64		run_id;
	int64		number;
	Oid			database;
	int			part;
} LeaseKey;

typedef struct Lease
{
	LeaseKey	key;
	int64		token;			/* number of the claim */
	pg_uuid_t	secret;
	Oid			role;
	bool		committed;		/* the claim is */
	int64		rows;			/* of the batch, which are reserved */
	int64		length;			/* milliseconds, or 0 for the time of the session */
	TimestampTz since;
	TimestampTz until;
	int			pid;			/* of the session that claimed, 0 after a restart */
	char		client[LEASE_NAME_SIZE];
	char		application[LEASE_NAME_SIZE];
	char		address[LEASE_NAME_SIZE];
} Lease;

/* What is wrong with a lease. */
typedef enum LeaseState
{
	LEASE_GOOD,
	LEASE_UNKNOWN,				/* nothing is known of it: the row decides */
	LEASE_OVER,					/* it ran out, or was taken away */
	LEASE_OTHER					/* the batch is somebody else's */
} LeaseState;

extern void lease_init(void);
extern LeaseKey lease_key(int64 run_id, int64 number, int part);
extern bool lease_enter(const Lease *lease, Lease *replaced);
extern void lease_commit(const LeaseKey *key, int64 token);
extern bool lease_remove(const LeaseKey *key, int64 token, Lease *removed);
extern LeaseState lease_check(const LeaseKey *key, int64 token, const pg_uuid_t *secret, Oid role,
							  Lease *copy);
extern bool lease_extend(const LeaseKey *key, int64 token, int64 length, TimestampTz *until);
extern bool lease_is_open(const LeaseKey *key);
extern List *lease_lapsed(int64 run_id, bool all);
extern void lease_count(Oid database, int64 run_id, int64 *n, int64 *rows);
extern void lease_forget(Oid database, int64 run_id, int64 *n, int64 *rows);
extern void lease_end_session(void);
extern int	lease_copy(Oid database, Lease **copies);

#endif							/* BACKFILL_SHARED_LEASE_H */
