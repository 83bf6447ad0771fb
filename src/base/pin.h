/*-------------------------------------------------------------------------
 *
 * pin.h
 *	  Values as texts that mean the same in every session.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_BASE_PIN_H
#define BACKFILL_BASE_PIN_H

extern int	pin_begin(bool path);
extern void pin_end(int nest);

#endif							/* BACKFILL_BASE_PIN_H */
