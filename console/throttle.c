/*-------------------------------------------------------------------------
 *
 * throttle.c
 *	  Logins that fail make the next ones wait.
 *
 * Counted are the failures of a role from an address, and those of an address with
 * whatever role.  The first failures of a role cost 1, 2, 4 seconds and so on up
 * to 30, in which no further attempt is passed on to the server; an address has
 * some failures free.  A success clears the role, ten quiet minutes clear both.
 *
 * The table has a fixed size; the one that was silent longest makes room.
 *
 *-------------------------------------------------------------------------
 */
#include <stdio.h>
#include <string.h>

#include "clock.h"
#include "throttle.h"

#define ENTRIES 512
#define FREE_OF_ADDRESS 10
#define LONGEST_WAIT 30000
#define FORGOTTEN_AFTER 600000
#define NAME_ROOM 192

typedef struct Entry
{
	char		name[NAME_ROOM];	/* empty: free */
	int			failures;
	int64_t		last;
} Entry;

static Entry entries[ENTRIES];

/* The entry of a name; made if there is none and "make" says so. */
static Entry *
find(const char *name, int make)
{
	Entry	   *oldest = &entries[0];
	int64_t		now = clock_now();

	for (int i = 0; i < ENTRIES; i++)
	{
		Entry	   *entry = &entries[i];

		if (entry->name[0] != '\0' && now - entry->last > FORGOTTEN_AFTER)
			memset(entry, 0, sizeof(Entry));
		if (strncmp(entry->name, name, NAME_ROOM - 1) == 0)
			return entry;
		if (entry->last < oldest->last)
			oldest = entry;
	}
	if (!make)
		return NULL;
	memset(oldest, 0, sizeof(Entry));
	snprintf(oldest->name, NAME_ROOM, "%s", name);
	return oldest;
}

static void
write_names(const char *role, const char *address, char both[NAME_ROOM], char one[NAME_ROOM])
{
	snprintf(both, NAME_ROOM, "both %.64s %.100s", address, role);
	snprintf(one, NAME_ROOM, "address %.100s", address);
}

/* Milliseconds that an entry has to wait from now on. */
static int64_t
wait_of(const Entry *entry, int free_failures)
{
	int			n = entry ? entry->failures - free_failures : 0;
	int64_t		wait;
	int64_t		left;

	if (n <= 0)
		return 0;
	wait = n > 5 ? LONGEST_WAIT : INT64_C(1000) << (n - 1);
	wait = wait > LONGEST_WAIT ? LONGEST_WAIT : wait;
	left = entry->last + wait - clock_now();
	return left > 0 ? left : 0;
}

/* Milliseconds until the role may try again from that address; 0 for at once. */
int64_t
throttle_wait(const char *role, const char *address)
{
	char		both[NAME_ROOM];
	char		one[NAME_ROOM];
	int64_t		a;
	int64_t		b;

	write_names(role, address, both, one);
	a = wait_of(find(both, 0), 0);
	b = wait_of(find(one, 0), FREE_OF_ADDRESS);
	return a > b ? a : b;
}

void
throttle_failed(const char *role, const char *address)
{
	char		names[2][NAME_ROOM];

	write_names(role, address, names[0], names[1]);
	for (int i = 0; i < 2; i++)
	{
		Entry	   *entry = find(names[i], 1);

		entry->failures++;
		entry->last = clock_now();
	}
}

void
throttle_succeeded(const char *role, const char *address)
{
	char		both[NAME_ROOM];
	char		one[NAME_ROOM];
	Entry	   *entry;

	write_names(role, address, both, one);
	entry = find(both, 0);
	if (entry != NULL)
		memset(entry, 0, sizeof(Entry));
}
