/*-------------------------------------------------------------------------
 *
 * room.h
 *	  Whether the server has room for the workers.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_SHARED_ROOM_H
#define BACKFILL_SHARED_ROOM_H

extern void room_check(int workers, const char *whose);

#endif							/* BACKFILL_SHARED_ROOM_H */
