/*-------------------------------------------------------------------------
 *
 * reclaim.c
 *	  Space that committed batches have freed is used by the next ones.
 *
 * An UPDATE leaves the old version of a row where it was until nobody can see it any
 * more; then any visitor of the page may remove it, but nobody visits the pages that
 * a walk has left behind, and what becomes free there is not known to those who look for
 * space.  So a rewrite of a table doubles it.
 *
 * A worker therefore notes the pages that its batch changes (walk/trail.c), and when the
 * batch is committed and its transaction is older than every snapshot, it has the
 * server prune them, as any reader of the page would, and enters what is free into the
 * free space map.  The new versions of the following batches then go there.  With other
 * workers on the run that is a few batches later, since each of their transactions may see
 * the old versions: what cannot be pruned yet waits in a queue.
 *
 * The pieces of values that are stored out of line lie in a TOAST table.  Its index says
 * where, also after they have been deleted.
 *
 * None of this is needed for anything to be right.  A page in use is left out, a table
 * that somebody locks, too, and what the queue cannot hold is left to VACUUM.  Only heaps
 * are pruned.  It is done between two batches, in a transaction without an id, whose errors
 * cost the queue and nothing else.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/stratnum.h"
#include "access/tableam.h"
#include "access/transam.h"
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/freespace.h"
#include "storage/lmgr.h"
#include "storage/procarray.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "base/compat.h"
#include "engine/reclaim.h"
#include "shared/run_slot.h"
#include "shared/size.h"

/* Pages that may wait, and the batches. */
#define MOST_PAGES		1048576
#define MOST_BATCHES	256
/* Less is not worth a transaction: small batches are cleared up after together. */
#define LEAST_PAGES		16
#define LEAST_BATCHES	64
/* Pages that are pruned before the next batch. */
#define PAGES_AT_ONCE	8192
/* Less space than this, in bytes, is of no use to anybody. */
#define LEAST_SPACE		(BLCKSZ / 32)
/* Pages on which updates leave less of old versions than this, on the average, are not worth their visit. */
#define LEAST_REMAINS	(BLCKSZ / 16)

/* Batches of all workers that are at work at one time need change no more than such a part of a table. */
#define SMALL_PART		80
/* A table of less pages than this may grow as it likes, but partitions of less may be many. */
#define SMALL_TABLE		1024

/* What a committed batch has left. */
typedef struct Remains
{
	MemoryContext context;		/* holds it */
	FullTransactionId xid;
	int64		rows;			/* that it walked */
	TimestampTz committed_at;
	int64		size;			/* pages and values, when it was put into the queue */
	List	   *pages;			/* TrailPages *, sorted */
	int			table;			/* which of them is next */
	int			block;			/* and which of its blocks */
} Remains;

/* The batch in hand has not been committed, or its pages are of no interest. */
void
reclaim_forget(Reclaim *reclaim)
{
	if (reclaim->context)
		MemoryContextDelete(reclaim->context);
	reclaim->context = NULL;
}

static int64
count_pages(const Remains *remains)
{
	int64		n = 0;
	ListCell   *lc;

	foreach(lc, remains->pages)
	{
		const TrailPages *pages = lfirst(lc);

		n += pages->n + pages->nvalues;
	}
	return n;
}

static void
drop_first(Reclaim *reclaim)
{
	Remains    *first = linitial(reclaim->queue);

	reclaim->pages -= first->size;
	reclaim->queue = list_delete_first(reclaim->queue);
	MemoryContextDelete(first->context);
}

/* The batch in hand is committed, by that transaction; it walked so many rows. */
void
reclaim_enqueue(Session *session, Reclaim *reclaim, FullTransactionId xid, int64 rows)
{
	Remains    *remains;
	MemoryContext old;
	ListCell   *lc;

	if (reclaim->context == NULL || reclaim->trail.pages == NIL || !FullTransactionIdIsValid(xid))
	{
		reclaim_forget(reclaim);
		return;
	}
	foreach(lc, reclaim->trail.pages)
		trail_sort(lfirst(lc));
	old = MemoryContextSwitchTo(reclaim->context);
	remains = palloc0(sizeof(Remains));
	remains->context = reclaim->context;
	remains->xid = xid;
	remains->rows = rows;
	remains->committed_at = GetCurrentTimestamp();
	remains->pages = reclaim->trail.pages;
	MemoryContextSwitchTo(session->context);
	reclaim->queue = lappend(reclaim->queue, remains);
	MemoryContextSwitchTo(old);
	reclaim->context = NULL;
	remains->size = count_pages(remains);
	reclaim->pages += remains->size;
	for (int i = 0; i < RECLAIM_TABLES; i++)
		reclaim->tables[i] = i < list_length(remains->pages) ?
			((TrailPages *) list_nth(remains->pages, i))->relid : InvalidOid;
	while (reclaim->pages > MOST_PAGES || list_length(reclaim->queue) > MOST_BATCHES)
		drop_first(reclaim);
}

/*
 * The server prunes pages that are nearly full, or have been too full for the new version
 * of a row; one from which large rows were deleted may be neither.  Give it the hint.
 * Returns how much is free on the page, or false when somebody is at it.
 */
static bool
mark_full(Buffer buffer, Size *space)
{
	Page		page = BufferGetPage(buffer);

	if (!ConditionalLockBuffer(buffer))
		return false;
	if (TransactionIdIsValid(((PageHeader) page)->pd_prune_xid))
		PageSetFull(page);
	*space = PageGetHeapFreeSpace(page);
	LockBuffer(buffer, BUFFER_LOCK_UNLOCK);
	return true;
}

/* Prune a page, unless somebody uses it, and say how much is free there. */
static void
prune_page(Reclaim *reclaim, Relation rel, BlockNumber block)
{
	Buffer		buffer = ReadBuffer(rel, block);
	Size		before;
	Size		space;

	if (!mark_full(buffer, &before))
	{
		ReleaseBuffer(buffer);
		return;
	}
	compat_prune_page(rel, buffer);
	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	space = PageGetHeapFreeSpace(BufferGetPage(buffer));
	UnlockReleaseBuffer(buffer);
	if (space > before)
	{
		reclaim->pruned++;
		reclaim->freed += space - before;
	}
	if (space >= LEAST_SPACE)
		RecordPageWithFreeSpace(rel, block, space);
}

/* The table, locked; NULL when it is not to be had, or is none of ours. */
static Relation
open_table(Oid relid)
{
	Relation	rel;

	if (!ConditionalLockRelationOid(relid, AccessShareLock))
		return NULL;
	rel = try_relation_open(relid, NoLock);
	if (rel == NULL)
	{
		UnlockRelationOid(relid, AccessShareLock);
		return NULL;
	}
	if ((rel->rd_rel->relkind == RELKIND_RELATION || rel->rd_rel->relkind == RELKIND_TOASTVALUE) &&
		rel->rd_tableam == GetHeapamTableAmRoutine())
		return rel;
	relation_close(rel, AccessShareLock);
	return NULL;
}

/*
 * The server looks for room from where it found some last, and takes the first page that has it
 * for one row.  On a table with random updates most pages do, so that new versions
 * would go to as many pages as there are rows, each of which is locked, read, and written in full
 * to the WAL after a checkpoint.  Have it go on from a page that has much: those
 * that were cleared up lie beside one another.
 */
static void
lead_to_space(const Reclaim *reclaim)
{
	for (int i = 0; i < RECLAIM_TABLES && OidIsValid(reclaim->tables[i]); i++)
	{
		Relation	rel = open_table(reclaim->tables[i]);
		BlockNumber block;

		if (rel == NULL)
			continue;
		block = InvalidBlockNumber;
		for (Size room = BLCKSZ / 2; room >= LEAST_REMAINS && !BlockNumberIsValid(block); room /= 2)
			block = GetPageWithFreeSpace(rel, room);
		if (BlockNumberIsValid(block))
			RelationSetTargetBlock(rel, block);
		relation_close(rel, AccessShareLock);
	}
}

/*
 * The next statement is about to run.  Returns what is to note its pages, or NULL if that is not
 * wanted.
 */
Trail *
reclaim_watch(Session *session, Reclaim *reclaim)
{
	reclaim_forget(reclaim);
	if (!session->settings.reuse_space)
	{
		/* switched off, with nothing left in the queue that would say so */
		if (reclaim->has_part)
			run_slot_note_space(0, 0, SIZE_NO_PART);
		reclaim->has_part = false;
		return NULL;
	}
	lead_to_space(reclaim);
	reclaim->context = AllocSetContextCreate(session->context, "backfill trail",
											 ALLOCSET_SMALL_SIZES);
	trail_begin(&reclaim->trail, reclaim->context);
	return &reclaim->trail;
}

/* The index of a TOAST table, locked, or NULL when it is not to be had. */
static Relation
open_toast_index(Relation toast)
{
	List	   *indexes = RelationGetIndexList(toast);
	Relation	result = NULL;
	ListCell   *lc;

	foreach(lc, indexes)
	{
		if (!ConditionalLockRelationOid(lfirst_oid(lc), AccessShareLock))
			continue;
		result = index_open(lfirst_oid(lc), NoLock);
		if (result->rd_index->indisvalid)
			break;
		index_close(result, AccessShareLock);
		result = NULL;
	}
	list_free(indexes);
	return result;
}

/* Find the pages where the pieces of the values lie, which are forgotten then. */
static void
find_pieces(Relation toast, TrailPages *pages)
{
	Relation	index = open_toast_index(toast);
	IndexScanDesc scan;
	ScanKeyData key;
	ItemPointer place;

	if (index == NULL)
	{
		pages->nvalues = 0;
		return;
	}
	scan = compat_index_beginscan(toast, index, SnapshotAny, 1);
	for (int i = 0; i < pages->nvalues; i++)
	{
		CHECK_FOR_INTERRUPTS();
		ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(pages->values[i]));
		index_rescan(scan, &key, 1, NULL, 0);
		while ((place = index_getnext_tid(scan, ForwardScanDirection)) != NULL)
			trail_note_block(pages, ItemPointerGetBlockNumber(place));
	}
	index_endscan(scan);
	index_close(index, AccessShareLock);
	pages->nvalues = 0;
	trail_sort(pages);
}

/*
 * Whether updates have left so little on each page that it costs more than it gives: rows
 * that lie far apart.  As the batches go on they come by these pages again and again, and
 * the server prunes a page when its next row is read, so that the new version fits there.
 */
static bool
is_sparse(const Relation rel, const TrailPages *pages)
{
	double		width;

	if (pages->deleted > 0 || pages->updated == 0 || rel->rd_rel->reltuples <= 0)
		return false;
	width = (double) rel->rd_rel->relpages * BLCKSZ / rel->rd_rel->reltuples;
	return pages->updated * width < (double) pages->n * LEAST_REMAINS;
}

/* Pages of a table and of its TOAST, as they were when it was last analyzed. */
static int64
known_pages(const Relation rel)
{
	int64		pages = rel->rd_rel->relpages;
	HeapTuple	toast = OidIsValid(rel->rd_rel->reltoastrelid) ?
		SearchSysCache1(RELOID, ObjectIdGetDatum(rel->rd_rel->reltoastrelid)) : NULL;

	if (HeapTupleIsValid(toast))
	{
		pages += ((Form_pg_class) GETSTRUCT(toast))->relpages;
		ReleaseSysCache(toast);
	}
	return pages;
}

/*
 * What a batch frees is of use to later ones only, so that a table grows by as much as the batches
 * change that are at work: how many rows of the walk change a small part of it.
 */
static void
note_part(const Session *session, Reclaim *reclaim, const Remains *remains, const TrailPages *pages,
		  const Relation rel)
{
	double		most = rel->rd_rel->reltuples / (SMALL_PART * Max(session->pace.workers, 1));
	int64		changed = pages->updated + pages->deleted;
	int64		rows = SIZE_NO_PART;

	if (changed == 0 || remains->rows == 0)
		return;
	if (session->settings.reuse_space && most > 0 &&
		(rel->rd_rel->relispartition || known_pages(rel) >= SMALL_TABLE))
		rows = Max((int64) (most * remains->rows / changed), 1);
	reclaim->part = reclaim->part == 0 ? rows : Min(reclaim->part, rows);
}

/*
 * Whether nobody sees what that transaction replaced.  The server looks who sees what only when
 * transactions have ended since it last did; a snapshot that is gone since is not noticed.
 */
static bool
is_removable(const Reclaim *reclaim, Relation rel, FullTransactionId xid)
{
	if (GlobalVisCheckRemovableFullXid(rel, xid))
		return true;
	if (!reclaim->at_leisure)
		return false;
	(void) GetOldestNonRemovableTransactionId(rel);
	return GlobalVisCheckRemovableFullXid(rel, xid);
}

/*
 * Prune pages of the table from *next on, at most so many.  Returns how many there
 * were, or -1 when the transaction that changed them is not old enough.
 */
static int
prune_table(const Session *session, Reclaim *reclaim, const Remains *remains, TrailPages *pages, int *next, int most)
{
	Relation	rel = open_table(pages->relid);
	BlockNumber nblocks;
	int			first = *next;
	int			last;

	if (rel)
		note_part(session, reclaim, remains, pages, rel);
	if (rel && is_sparse(rel, pages))
	{
		relation_close(rel, AccessShareLock);
		rel = NULL;
	}
	if (rel == NULL)
	{
		*next = pages->n;
		return 0;
	}
	if (!is_removable(reclaim, rel, remains->xid))
	{
		relation_close(rel, AccessShareLock);
		return -1;
	}

	if (pages->nvalues > 0)
		find_pieces(rel, pages);

	/* it may have been truncated since */
	nblocks = RelationGetNumberOfBlocks(rel);
	for (last = first; last < pages->n && last - first < most && pages->blocks[last] < nblocks; last++)
	{
		CHECK_FOR_INTERRUPTS();
		prune_page(reclaim, rel, pages->blocks[last]);
	}
	if (last > first)
		FreeSpaceMapVacuumRange(rel, pages->blocks[first], pages->blocks[last - 1] + 1);
	*next = last < pages->n && pages->blocks[last] >= nblocks ? pages->n : last;
	relation_close(rel, AccessShareLock);
	return last - first;
}

/* In a transaction of its own: prune what can be pruned, up to a limit. */
static void
prune(Session *session, void *arg)
{
	Reclaim    *reclaim = (Reclaim *) arg;
	int			left = PAGES_AT_ONCE;

	session_begin(session);
	PushActiveSnapshot(GetTransactionSnapshot());
	while (reclaim->queue != NIL && left > 0)
	{
		Remains    *first = linitial(reclaim->queue);
		TrailPages *pages = list_nth(first->pages, first->table);
		int			n = prune_table(session, reclaim, first, pages, &first->block, left);

		reclaim->is_kept = n < 0;
		if (reclaim->is_kept)
			break;
		left -= n;
		if (first->block < pages->n)
			continue;
		first->block = 0;
		if (++first->table == list_length(first->pages))
			drop_first(reclaim);
	}
	PopActiveSnapshot();
	session_commit(session);
}

/*
 * Between two batches, with nothing held: clear up after batches that everybody sees
 * as committed; at leisure, before the worker waits, also where that is little.
 */
void
reclaim_some(Session *session, Reclaim *reclaim, bool at_leisure)
{
	ErrorData  *error;
	int64		freed = reclaim->freed;

	if (reclaim->queue == NIL || (!at_leisure && reclaim->pages < LEAST_PAGES &&
								  list_length(reclaim->queue) < LEAST_BATCHES))
		return;
	reclaim->is_kept = false;
	reclaim->part = 0;
	reclaim->at_leisure = at_leisure;
	error = session_try(session, prune, reclaim);
	run_slot_note_space(reclaim->freed - freed, error == NULL && reclaim->is_kept ?
						((Remains *) linitial(reclaim->queue))->committed_at : 0, reclaim->part);
	if (reclaim->part != 0)
		reclaim->has_part = reclaim->part != SIZE_NO_PART;
	if (error == NULL)
		return;
	while (reclaim->queue != NIL)
		drop_first(reclaim);
	ereport(DEBUG1,
			(errmsg_internal("could not prune what batches have left: %s", error->message)));
}
