/*-------------------------------------------------------------------------
 *
 * setting.h
 *	  One setting of the vocabulary; for settings.c and setting_value.c only.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BACKFILL_SETTING_H
#define BACKFILL_SETTING_H

#include "settings.h"

typedef enum SettingType
{
	SETTING_BOOL,				/* true or false */
	SETTING_INTEGER,			/* a JSON number without fraction */
	SETTING_WORKERS,			/* the same, or "auto", which is zero */
	SETTING_INTERVAL,			/* a string that is an interval; 0 and "off" for zero */
	SETTING_ENUM,				/* one of a list of words */
	SETTING_NUMBER,				/* a JSON number, kept in millionths */
	SETTING_BYTES,				/* a JSON number of bytes, or a string with a unit */
	SETTING_ROW_RATE,			/* a string such as "3000 per 5 min" */
	SETTING_BYTE_RATE,			/* a string such as "20MB per second" */
	SETTING_KEY,				/* a scalar or an array of scalars */
	SETTING_WINDOWS,			/* an array of objects; see window.c */
	SETTING_SQL					/* a string that is one SQL statement */
} SettingType;

/* cannot change once the run exists */
#define SETTING_FIXED	0x01
/* there is none by default */
#define SETTING_NONE	0x02
/* sets the pace, and may depend on the hour */
#define SETTING_PACE	0x04

typedef struct Setting
{
	const char *name;
	SettingType type;
	size_t		offset;			/* of the member of RunSettings */
	int64		boot;			/* default, in milliseconds for an interval */
	int64		min;
	int64		max;
	const char *const *words;	/* of an enumeration, ending in NULL */
	int			flags;
	const char *description;
} Setting;

extern bool setting_is_ranged(const Setting *setting);
extern char *setting_text(const Setting *setting, int64 value);
extern char *setting_scalar_text(JsonbValue *value);
extern void setting_set_default(const Setting *setting, RunSettings *result);
extern void setting_apply(const Setting *setting, JsonbValue *value, RunSettings *result);

#endif							/* BACKFILL_SETTING_H */
