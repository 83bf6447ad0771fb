/*-------------------------------------------------------------------------
 *
 * place.c
 *	  Where a row is after it was changed.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/tableam.h"
#include "utils/rel.h"

#include "walk/place.h"

/*
 * The place of the version, which the snapshot sees, of the row of which one was there; the same
 * place if it is gone, or has moved to another table.
 */
ItemPointerData
place_follow(Oid relid, ItemPointerData place, Snapshot snapshot)
{
	Relation	rel = table_open(relid, AccessShareLock);
	TableScanDesc scan = table_beginscan_tid(rel, snapshot);

	table_tuple_get_latest_tid(scan, &place);
	table_endscan(scan);
	table_close(rel, NoLock);
	return place;
}
