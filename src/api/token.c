/*-------------------------------------------------------------------------
 *
 * token.c
 *	  The token of a claim, as a client has it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <ctype.h>

#include "lib/stringinfo.h"

#include "api/token.h"

/* The token as the client has it: a number that never comes again, and the secret. */
char *
token_text(const LeaseToken *token)
{
	StringInfoData buf;

	initStringInfo(&buf);
	appendStringInfo(&buf, INT64_FORMAT "-", token->number);
	for (int i = 0; i < UUID_LEN; i++)
		appendStringInfo(&buf, "%02x", token->secret.data[i]);
	return buf.data;
}

static bool
parse_hex(const char *text, unsigned char *bytes)
{
	for (int i = 0; i < UUID_LEN; i++)
	{
		unsigned int byte;

		if (!isxdigit((unsigned char) text[2 * i]) || !isxdigit((unsigned char) text[2 * i + 1]) ||
			sscanf(text + 2 * i, "%2x", &byte) != 1)
			return false;
		bytes[i] = byte;
	}
	return text[2 * UUID_LEN] == '\0';
}

/* Read the token; false if it is none. */
bool
token_parse(const char *words, LeaseToken *token)
{
	char	   *end;

	errno = 0;
	token->number = strtoll(words, &end, 10);
	return errno == 0 && end > words && *end == '-' && strlen(end + 1) >= 2 * UUID_LEN &&
		parse_hex(end + 1, token->secret.data);
}
