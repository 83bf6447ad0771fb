/*-------------------------------------------------------------------------
 *
 * assets.h
 *	  Script, style and pictures that are compiled into the program.
 *
 * assets.c is made by embed.pl.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CONSOLE_ASSETS_H
#define CONSOLE_ASSETS_H

#include <stddef.h>

typedef struct Asset
{
	const char *name;
	const char *type;
	const char *etag;
	const unsigned char *bytes;
	size_t		length;
} Asset;

extern const Asset *asset_find(const char *name);

#endif							/* CONSOLE_ASSETS_H */
