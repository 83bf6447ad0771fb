/*-------------------------------------------------------------------------
 *
 * secret.c
 *	  Random tokens, and passwords in memory.
 *
 * A password is kept for as long as somebody is logged in with it, because a
 * connection that was lost has to be made again.  It stands on a page of its own
 * that is neither swapped out nor part of a core dump, and is wiped at the end.
 *
 * Comparing a secret takes the same time wherever it differs.
 *
 *-------------------------------------------------------------------------
 */
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>

#include "log.h"
#include "secret.h"

/* A password is not longer than that, with its zero. */
#define SECRET_ROOM 4096

static uint64_t key[8];

static void
fill_random(void *bytes, size_t n)
{
	if (getrandom(bytes, n, 0) != (ssize_t) n)
		log_die("could not get random numbers");
}

static void
write_hex(const unsigned char *bytes, size_t n, char *hex)
{
	for (size_t i = 0; i < n; i++)
		snprintf(hex + 2 * i, 3, "%02x", bytes[i]);
}

/* Makes the key of secret_sign, which lives as long as the program. */
void
secret_init(void)
{
	fill_random(key, sizeof(key));
}

/* A new token that nobody can guess. */
void
secret_token(char token[SECRET_TOKEN])
{
	unsigned char bytes[32];

	fill_random(bytes, sizeof(bytes));
	write_hex(bytes, sizeof(bytes), token);
}

static uint64_t
turn(uint64_t x, int bits)
{
	return (x << bits) | (x >> (64 - bits));
}

static void
sip_round(uint64_t v[4])
{
	v[0] += v[1];
	v[1] = turn(v[1], 13) ^ v[0];
	v[0] = turn(v[0], 32);
	v[2] += v[3];
	v[3] = turn(v[3], 16) ^ v[2];
	v[0] += v[3];
	v[3] = turn(v[3], 21) ^ v[0];
	v[2] += v[1];
	v[1] = turn(v[1], 17) ^ v[2];
	v[2] = turn(v[2], 32);
}

/* SipHash-2-4 of a text under one of the keys. */
static uint64_t
sip(const char *text, uint64_t k0, uint64_t k1)
{
	uint64_t	v[4] = {k0 ^ 0x736f6d6570736575, k1 ^ 0x646f72616e646f6d,
	k0 ^ 0x6c7967656e657261, k1 ^ 0x7465646279746573};
	size_t		n = strlen(text);
	size_t		i = 0;

	for (;;)
	{
		uint64_t	word = 0;
		size_t		part = n - i < 8 ? n - i : 8;

		for (size_t j = 0; j < part; j++)
			word |= (uint64_t) (unsigned char) text[i + j] << (8 * j);
		if (part < 8)
			word |= (uint64_t) n << 56;
		v[3] ^= word;
		sip_round(v);
		sip_round(v);
		v[0] ^= word;
		i += part;
		if (part < 8)
			break;
	}
	v[2] ^= 0xff;
	for (int j = 0; j < 4; j++)
		sip_round(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

/* The token that belongs to a text; only this process can make it. */
void
secret_sign(const char *text, char token[SECRET_TOKEN])
{
	uint64_t	sums[4];

	for (int i = 0; i < 4; i++)
		sums[i] = sip(text, key[2 * i], key[2 * i + 1]);
	write_hex((const unsigned char *) sums, sizeof(sums), token);
}

/* Whether two secrets are the same; NULL is the same as nothing. */
bool
secret_equal(const char *a, const char *b)
{
	size_t		n;
	unsigned char differs = 0;

	if (a == NULL || b == NULL || strlen(a) != strlen(b))
		return false;
	n = strlen(a);
	for (size_t i = 0; i < n; i++)
		differs |= (unsigned char) a[i] ^ (unsigned char) b[i];
	return differs == 0;
}

/* A copy of a password for secret_forget, or NULL if it is too long. */
char *
secret_keep(const char *password)
{
	size_t		n = strlen(password) + 1;
	char	   *copy;

	if (n > SECRET_ROOM)
		return NULL;
	copy = mmap(NULL, SECRET_ROOM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (copy == MAP_FAILED)
		log_die("out of memory");
	/* a limit on locked memory is no reason to refuse */
	(void) mlock(copy, SECRET_ROOM);
	(void) madvise(copy, SECRET_ROOM, MADV_DONTDUMP);
	memcpy(copy, password, n);
	return copy;
}

void
secret_forget(char *password)
{
	if (password == NULL)
		return;
	explicit_bzero(password, SECRET_ROOM);
	munmap(password, SECRET_ROOM);
}

/* Wipes a text in place; NULL is none. */
void
secret_wipe(char *text)
{
	if (text != NULL)
		explicit_bzero(text, strlen(text));
}
