/*-------------------------------------------------------------------------
 *
 * pin.h
 *	  Values as texts that mean the same in every session.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_PIN_H
#define BACKFILL_PIN_H

extern int	pin_parameters(bool path);
extern void unpin_parameters(int nest);

#endif							/* BACKFILL_PIN_H */
