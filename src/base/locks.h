/*-------------------------------------------------------------------------
 *
 * locks.h
 *	  Our locks among the advisory ones.
 *
 * The server itself uses the classes 1 and 2 for pg_advisory_lock and its
 * like, so that nobody meets one of these by accident.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_BASE_LOCKS_H
#define BACKFILL_BASE_LOCKS_H

#include "miscadmin.h"
#include "storage/lock.h"

typedef enum LockClass
{
	LOCK_CLASS_CLAIM = 77,		/* by run: from a claim to its commit */
	LOCK_CLASS_SCHEDULER = 79,	/* by database: its only scheduler */
	LOCK_CLASS_CHANGE = 80,		/* by run: it changes by the hands of a worker */
	LOCK_CLASS_START = 81,		/* by definition or table: a run is started */
	LOCK_CLASS_STREAM = 83,		/* by run: its workers choose streams one after the other */
	LOCK_CLASS_DEFINE = 82		/* by owner: a definition leads to others */
} LockClass;

/* The lock of the class with that number, in this database. */
static inline LOCKTAG
locks_tag(LockClass class, int64 number)
{
	LOCKTAG		tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, (uint32) (number >> 32), (uint32) number, class);
	return tag;
}

#endif							/* BACKFILL_BASE_LOCKS_H */
